-- What the log says, without our program: for DuckDB (pip install duckdb), which reads the lines as they lie on disk.
--
--   SET VARIABLE log = ['/mnt/copy/audit'];       the folder with segments/ in it; several relays: a list of them
--   .read opinion.sql                             in DuckDB's own shell; opinion.py does it from Python
--   FROM holders('2026-06-30 23:59:59');          who held what then
--   FROM changed('2026-06-01', '2026-07-01');     what was changed in a period
--   FROM peak; FROM consumption;

-- One row a record. Compressed segments are read as they are.
CREATE OR REPLACE VIEW record AS
SELECT "@timestamp"::TIMESTAMP        AS time,
       event.sequence                 AS sequence,
       event.id                       AS exchange,
       event.action                   AS action,
       event.outcome                  AS outcome,
       qlik.direction                 AS direction,
       qlik.source_id                 AS source,
       qlik.license                   AS license,
       qlik.allotment                 AS allotment,
       qlik.instance                  AS instance,
       coalesce(qlik.version, 0)      AS version,
       qlik.rejection                 AS rejection,
       qlik.month                     AS month,
       qlik.delta                     AS delta,
       qlik.total                     AS total,
       "user".target.hash             AS subject,
       filename
FROM read_json(
    list_transform(getvariable('log'), lambda folder: folder || '/segments/*.jsonl*'),
    format = 'newline_delimited', filename = true,
    columns = {
        '@timestamp': 'VARCHAR',
        'event': 'STRUCT(sequence BIGINT, id VARCHAR, action VARCHAR, outcome VARCHAR)',
        'qlik': 'STRUCT(direction VARCHAR, source_id VARCHAR, license VARCHAR, allotment VARCHAR, instance VARCHAR,
                        version BIGINT, rejection VARCHAR, "month" VARCHAR, delta BIGINT, total BIGINT)',
        'user': 'STRUCT(target STRUCT(hash VARCHAR))'
    });

-- A change is known by its license, version, allotment and person: told to five deployments it is one change. `time` is
-- when this log first saw it. Changes without a version are not in here: they have no number to be told apart by.
CREATE OR REPLACE VIEW change AS
SELECT license, allotment, subject, version,
       min(time)                                  AS time,
       split_part(any_value(action), '.', 3)      AS change,
       bool_or(outcome = 'failure')               AS rejected
FROM record
WHERE action IN ('license.assignment.add', 'license.assignment.delete', 'license.assignment.unknown')
  AND direction = 'in' AND version > 0 AND subject IS NOT NULL
GROUP BY license, allotment, subject, version;

-- Who held what at a time: of what was told by then and not rejected, the highest version of each person decides.
CREATE OR REPLACE MACRO holders(at_time) AS TABLE
SELECT license, allotment, subject, version, time AS since
FROM (SELECT * FROM change WHERE NOT rejected AND time <= at_time)
QUALIFY row_number() OVER (PARTITION BY license, allotment, subject ORDER BY version DESC) = 1 AND change = 'add';

-- What was changed in a period, both ends included.
CREATE OR REPLACE MACRO changed(from_time, to_time) AS TABLE
SELECT time, license, allotment, subject, version, change,
       CASE WHEN rejected THEN 'rejected' ELSE 'done' END AS result
FROM change
WHERE time BETWEEN from_time AND to_time;

-- How many held an allotment at the same time on each day, at most: after each change, and what was left by the day before.
CREATE OR REPLACE VIEW peak AS
WITH step AS (
    -- Held or not, after each change that was no late news.
    SELECT license, allotment, subject, version, time, (change = 'add')::INT AS held
    FROM (SELECT *, max(version) OVER (
                        PARTITION BY license, allotment, subject ORDER BY time, version
                        ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS newest
          FROM change WHERE NOT rejected)
    WHERE version = newest
),
delta AS (
    SELECT *, held - lag(held, 1, 0) OVER (
                  PARTITION BY license, allotment, subject ORDER BY time, version) AS more
    FROM step
),
total AS (
    SELECT license, allotment, time, version,
           sum(more) OVER (PARTITION BY license, allotment ORDER BY time, version
                           ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS held
    FROM delta
),
day AS (
    SELECT license, allotment, unnest(generate_series(first, last, INTERVAL 1 DAY))::DATE AS day
    FROM (SELECT DISTINCT license, allotment FROM total),
         (SELECT min(time)::DATE AS first, max(time)::DATE AS last FROM record)
)
SELECT day.license, day.allotment, day.day,
       greatest(coalesce(max(total.held) FILTER (WHERE total.time::DATE = day.day), 0),
                coalesce(arg_max(total.held, (total.time, total.version))
                             FILTER (WHERE total.time::DATE < day.day), 0)) AS peak,
       coalesce(arg_max(total.held, (total.time, total.version)), 0)        AS at_end
FROM day LEFT JOIN total
  ON total.license = day.license AND total.allotment = day.allotment AND total.time::DATE <= day.day
GROUP BY ALL;

-- Consumption of each month. What was asked and answered is confirmed; what failed counts nothing; of the rest nobody
-- knows. `total` is the largest that the back end has told.
CREATE OR REPLACE VIEW consumption AS
WITH ended AS (
    SELECT exchange, any_value(outcome) AS outcome
    FROM record WHERE action = 'license.consumption.response' GROUP BY exchange
)
SELECT license, month, allotment,
       sum(delta) FILTER (WHERE ended.outcome = 'success')                       AS confirmed,
       sum(delta) FILTER (WHERE coalesce(ended.outcome, 'unknown') = 'unknown')  AS unknown,
       (SELECT max(total) FROM record AS told
        WHERE told.action = 'license.consumption.response' AND told.license = asked.license
          AND told.month = asked.month AND told.allotment = asked.allotment)     AS total
FROM record AS asked LEFT JOIN ended USING (exchange)
WHERE action = 'license.consumption.report'
GROUP BY license, month, allotment;
