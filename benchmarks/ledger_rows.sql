INSERT INTO studies (uid, first_at, last_at, instances, dirty, verdict, evidence, refusal, kept)
SELECT {uid}, {came}, {came}, 2, false, 'complete', 'every slice of one run', '', i > :gone FROM n;

INSERT INTO instances (id, sop_instance_uid, digest, study_uid, series_uid, size, conflict, freed, association,
    received_at, facts)
SELECT i * 2 + k, {uid} || '.1.' || k, {scattered} || k, {uid}, {uid} || '.1', 500000, false, i <= :gone, 'gone',
    {came}, {facts}
FROM n, (SELECT 0 AS k UNION ALL SELECT 1) AS pair;

INSERT INTO jobs (id, key, study_uid, bundle, bundle_version, bundle_digest, series, digests, state, reason, detail,
    attempts, created_at, not_before, finished_at, worker, fence, findings, seconds, answer)
SELECT i, {scattered}, {uid}, 'brain-mri', '1.0.0', 'd', {empty}, {digests}, 'COMPLETED', '', '',
    1, {made}, {made}, {done}, 'w', 1, {findings}, {empty}, 'likely'
FROM n;

INSERT INTO outputs (id, job_id, kind, sop_class_uid, sop_instance_uid, series_uid, digest, size, freed)
SELECT i * 2 + k, i, CASE k WHEN 0 THEN 'SEG' ELSE 'SR' END, '1.2', {uid} || '.9.' || k, {uid} || '.9',
    {scattered} || k, 20000, i <= :gone
FROM n, (SELECT 0 AS k UNION ALL SELECT 1) AS pair;

INSERT INTO deliveries (id, output_id, destination, state, attempts, created_at, due_at, sent_at, confirmed_at,
    transaction_uid, detail)
SELECT i * 2 + k, i * 2 + k, 'pacs', 'CONFIRMED', 1, {done}, {done}, {done}, {done}, '2.25.' || i, 'storage commitment'
FROM n, (SELECT 0 AS k UNION ALL SELECT 1) AS pair;

INSERT INTO transitions (at, subject, subject_id, old, new, detail)
SELECT {done}, subject, CASE subject WHEN 'job' THEN i ELSE i * 2 + k END, old, new, ''
FROM n, (
    SELECT 1 AS step, 'job' AS subject, 0 AS k, '' AS old, 'SCHEDULED' AS new
    UNION ALL SELECT 2, 'job', 0, 'SCHEDULED', 'IN PROGRESS'
    UNION ALL SELECT 3, 'job', 0, 'IN PROGRESS', 'COMPLETED'
    UNION ALL SELECT 4, 'delivery', 0, 'PENDING', 'SENT'
    UNION ALL SELECT 5, 'delivery', 1, 'PENDING', 'SENT'
    UNION ALL SELECT 6, 'delivery', 0, 'SENT', 'CONFIRMED'
    UNION ALL SELECT 7, 'delivery', 1, 'SENT', 'CONFIRMED'
) AS steps ORDER BY i, step
