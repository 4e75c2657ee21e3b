#!/usr/bin/env python3
"""Compares a report (cases.tsv) with what is expected of an engine: verdict, close code and clean end per case.

compare.py [--update] [--smoke] CASES.tsv EXPECTED.json
compare.py --allowed EXPECTED.json      prints the cases that are expected to fail
"""
import csv
import json
import os
import sys


def key(case):
    return [int(part) for part in case.split('.')]


def in_smoke(case):
    """Whether `run --smoke` has it."""
    group, last = case.split('.')[0], case.split('.')[-1]
    return last in {'12': ('1', '5'), '13': ('1',)}.get(group, (last,))


def main():
    options = [a for a in sys.argv[1:] if a.startswith('--')]
    paths = [a for a in sys.argv[1:] if not a.startswith('--')]
    if '--allowed' in options:
        expected = json.load(open(paths[0])) if os.path.exists(paths[0]) else {}
        print(','.join(case for case, what in expected.items() if what.startswith('FAILED')))
        return 0
    report, expected_path = paths
    with open(report, newline='') as f:
        rows = list(csv.DictReader(f, delimiter='\t'))
    seen = {}
    for row in rows:
        clean = 'clean' if row['clean'] == 'True' else 'unclean'
        seen[row['case']] = ' '.join([row['verdict'], clean, row['remoteCloseCode'] or 'None'])
    if not seen:
        print('the report has no case')
        return 1
    if '--update' in options:
        with open(expected_path, 'w') as f:
            json.dump({case: seen[case] for case in sorted(seen, key=key)}, f, indent=0)
            f.write('\n')
        print('wrote', expected_path, len(seen), 'cases')
        return 0
    expected = json.load(open(expected_path))
    if '--smoke' in options:
        expected = {c: w for c, w in expected.items() if in_smoke(c)}
    different = [c for c in sorted(set(seen) | set(expected), key=key) if seen.get(c) != expected.get(c)]
    for case in different:
        print('%s: expected %s, got %s' % (case, expected.get(case), seen.get(case)))
    print('%d cases, %d differ from %s' % (len(seen), len(different), os.path.basename(expected_path)))
    return 1 if different else 0


sys.exit(main())
