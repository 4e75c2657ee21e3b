//! The content codings of this build.

/// The encodings that are asked for and decompressed, by feature.
pub(super) const ENCODINGS: &str =
    match (cfg!(feature = "gzip"), cfg!(feature = "brotli"), cfg!(feature = "zstd")) {
        (false, false, false) => "",
        (true, false, false) => "gzip",
        (false, true, false) => "br",
        (false, false, true) => "zstd",
        (true, true, false) => "gzip, br",
        (true, false, true) => "gzip, zstd",
        (false, true, true) => "br, zstd",
        (true, true, true) => "gzip, br, zstd",
    };
