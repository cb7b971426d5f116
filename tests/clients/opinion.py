"""What DuckDB says of a log, by the SQL in opinion.sql: one JSON object.

usage: opinion.py AT FROM TO LOG [LOG ...]
"""
import json
import pathlib
import sys

import duckdb

at, begin, end, *logs = sys.argv[1:]
database = duckdb.connect()
database.execute("SET VARIABLE log = ?", [logs])
database.execute(pathlib.Path(__file__).with_name("opinion.sql").read_text())


def rows(query, *values):
    found = database.execute(query, list(values))
    names = [column[0] for column in found.description]
    return [dict(zip(names, row)) for row in found.fetchall()]


time = "strftime({}, '%Y-%m-%dT%H:%M:%SZ')"
answer = {
    "holders": rows(
        f"SELECT license, allotment, subject, version, {time.format('since')} AS since FROM holders(?::TIMESTAMP)", at
    ),
    "changes": rows(
        f"SELECT {time.format('time')} AS time, license, allotment, subject, version, change, result"
        " FROM changed(?::TIMESTAMP, ?::TIMESTAMP)",
        begin,
        end,
    ),
    "peak": rows("SELECT license, allotment, day::VARCHAR AS day, peak::BIGINT AS peak, at_end::BIGINT AS at_end FROM peak"),
    "consumption": rows(
        "SELECT license, month, allotment, coalesce(confirmed, 0)::BIGINT AS confirmed,"
        " coalesce(unknown, 0)::BIGINT AS unknown, total FROM consumption"
    ),
    "records": rows("SELECT count(*) AS records FROM record")[0]["records"],
}
json.dump(answer, sys.stdout)
