//! The routes of the servers: which of them a scenario asks for, and that each one of the READMEs has a scenario.

use std::{
    collections::BTreeSet,
    env, fmt, fs,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{
    server::Program,
    site::{SOCKET, Scenario, Verdict, ensure},
};

/// Routes that some servers of a program do not have: route, servers that have it. As the READMEs say.
const OF_SOME: &[(&str, &[&str])] = &[
    ("/echo?level", &["go-gorilla", "go-fasthttp"]),
    ("/echo?read", &["go-gorilla", "go-fasthttp"]),
    ("/echo?write", &["go-gorilla", "go-fasthttp"]),
    ("/echo?deadline", &["go-gorilla", "go-fasthttp"]),
    ("/echo?prepared", &["go-gorilla"]),
    ("/echo?takeover", &["go-coder", "go-gws"]),
    ("/echo?window", &["go-gws"]),
    ("/limit/{n}", &["jetty", "tomcat", "undertow", "netty"]),
    ("/idle/{ms}", &["jetty", "tomcat", "undertow", "netty"]),
];

/// The server that has WebSockets alone, and the routes that are pages.
const WITHOUT_PAGES: &str = "javaws";
const PAGES: &[&str] = &[
    "/hello",
    "/cookie",
    "/events",
    "/empty",
    "/count",
    "/reject/{status}",
    "/status/{code}",
    "/text/{n}",
    "/headers/{n}",
    "/chunks/{n}/{ms}",
    "/trailers",
    "/goto/{status}/{route}",
    "/half",
    "/broken",
    "/throws",
    "/slow/{ms}",
];

/// A route, with the names of its query.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Route {
    path: String,
    keys: BTreeSet<String>,
}

impl Route {
    /// `/chunks/{n}?ms`, `/chunks/5?ms=20` and `/gzip?members=&flush=` are routes.
    fn parse(text: &str) -> Self {
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        let keys = query.split('&').filter(|pair| !pair.is_empty());
        let keys = keys.map(|pair| pair.split('=').next().unwrap_or(pair).to_owned());
        Self { path: path.to_owned(), keys: keys.collect() }
    }

    /// Whether the path is one of this route, where `{name}` stands for anything; the last one for all that follows.
    fn leads(&self, path: &str) -> bool {
        let (mut ours, mut theirs) = (self.path.split('/'), path.split('/'));
        let mut is_open = false;
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => return true,
                (None, Some(_)) => return is_open,
                (Some(_), None) => return false,
                (Some(our), Some(their)) => {
                    is_open = our == "{route}";
                    let is_any = our.starts_with('{') && !their.is_empty();
                    if our != their && !is_any {
                        return false;
                    }
                }
            }
        }
    }

    /// Each of its keys apart, and the path alone.
    fn parts(&self) -> impl Iterator<Item = String> + '_ {
        let keys = self.keys.iter().map(|key| format!("{}?{key}", self.path));
        std::iter::once(self.path.clone()).chain(keys)
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.keys.iter().map(String::as_str).collect();
        f.write_str(&self.path)?;
        if keys.is_empty() { Ok(()) } else { write!(f, "?{}", keys.join("&")) }
    }
}

/// What a scenario asked for.
#[derive(Default)]
pub(crate) struct Asked {
    routes: Mutex<BTreeSet<(bool, Route)>>,
    is_excused: AtomicBool,
}

impl Asked {
    pub(crate) fn note(&self, is_socket: bool, path: &str) {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.insert((is_socket, Route::parse(path)));
    }

    /// Something is left out, since the engine cannot do it.
    pub(crate) fn excuse(&self) {
        self.is_excused.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_excused(&self) -> bool {
        self.is_excused.load(Ordering::Relaxed)
    }

    /// # Errors
    /// A route that was asked for and is not declared, or the other way round.
    pub(crate) fn compare(&self, declared: &[&str]) -> Verdict {
        let asked = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let declared: Vec<_> = declared
            .iter()
            .map(|text| match text.strip_prefix(SOCKET) {
                Some(text) => (true, Route::parse(text)),
                None => (false, Route::parse(text)),
            })
            .collect();
        let mut missed: BTreeSet<_> = declared
            .iter()
            .flat_map(|(is_socket, route)| route.parts().map(|part| (*is_socket, part)))
            .collect();
        for (is_socket, route) in &*asked {
            let found = declared.iter().find(|(other, declared)| {
                other == is_socket
                    && declared.leads(&route.path)
                    && route.keys.is_subset(&declared.keys)
            });
            let (_, declared) =
                found.ok_or_else(|| format!("the scenario does not declare route {route}"))?;
            missed.remove(&(*is_socket, declared.path.clone()));
            for key in &route.keys {
                missed.remove(&(*is_socket, format!("{}?{key}", declared.path)));
            }
        }
        if self.is_excused() {
            return Ok(());
        }
        ensure(missed.is_empty(), format!("the scenario does not ask for {missed:?}"))
    }
}

/// Compares the README of a program with the routes that the scenarios of each of its servers declare.
///
/// # Errors
/// Each route without a scenario, and each declared route that the README does not have.
pub(crate) fn check(program: Program, servers: &[(String, Vec<Scenario>)]) -> Verdict {
    let text = fs::read_to_string(readme(program).ok_or("there is no README")?)?;
    let documented = documented(program, &text);
    ensure(documented.len() > 10, format!("the README has no routes but {documented:?}"))?;
    let mut faults = Vec::new();
    for (server, scenarios) in servers {
        let mut declared = BTreeSet::new();
        for route in scenarios.iter().flat_map(|scenario| scenario.routes) {
            let route = Route::parse(route.strip_prefix(SOCKET).unwrap_or(route));
            if !documented.contains(&route.path) {
                faults.push(format!("{server}: {} is not in the README", route.path));
            }
            declared.extend(route.parts());
        }
        let needed = documented.iter().filter(|route| has(server, route));
        for route in needed.filter(|route| !declared.contains(*route)) {
            faults.push(format!("{server}: no scenario for {route}"));
        }
    }
    faults.sort();
    faults.dedup();
    ensure(faults.is_empty(), faults.join("; "))
}

fn has(server: &str, route: &str) -> bool {
    let is_page = PAGES.contains(&route);
    let is_of_some = OF_SOME.iter().find(|(some, _)| *some == route);
    !(server == WITHOUT_PAGES && is_page)
        && is_of_some.is_none_or(|(_, servers)| servers.contains(&server))
}

/// Where the README of a program is, if it is there.
pub(crate) fn readme(program: Program) -> Option<PathBuf> {
    let folder = PathBuf::from(env::var_os("DRIVETRAIN_PEERS")?);
    let path = folder.join(program.file()).with_file_name("README.md");
    path.exists().then_some(path)
}

/// The routes that a README names, each key of a query apart.
///
/// A route is a span of code that begins with `/`, perhaps behind a method. A span that begins with `?` adds to the query
/// of the route before it, and so does each span behind the word `Query:` of a row.
fn documented(program: Program, readme: &str) -> BTreeSet<String> {
    let lines = readme.lines().filter(|line| {
        let is_of_http = line.contains("`go-peer http") || line.starts_with("Pages of `http`");
        match program {
            Program::GoHttp => is_of_http,
            Program::Go => !is_of_http && !line.starts_with("- "),
            Program::Ktor | Program::Java => true,
        }
    });
    let mut found = BTreeSet::new();
    for line in lines {
        let mut last = None;
        let mut is_query = false;
        for (number, text) in line.split('`').enumerate() {
            // Every second piece is a span.
            if number % 2 == 0 {
                is_query |= text.contains("Query:");
                continue;
            }
            let text = text.split_once(' ').map_or(text, |(_, path)| path);
            let route = match (&last, text.strip_prefix('?')) {
                (Some(path), Some(query)) => Route::parse(&format!("{path}?{query}")),
                // `off` is a value.
                (Some(path), None) if is_query && text != "off" => {
                    Route::parse(&format!("{path}?{text}"))
                }
                _ if is_path(text) => Route::parse(text),
                _ => continue,
            };
            // What is in brackets may be left out.
            if let Some((path, more)) = route.path.split_once('[') {
                found.insert(path.to_owned());
                found.insert(format!("{path}{}", more.trim_end_matches(']')));
            } else {
                found.extend(route.parts());
            }
            last = Some(route.path);
        }
    }
    found
}

fn is_path(text: &str) -> bool {
    text.strip_prefix('/').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
}
