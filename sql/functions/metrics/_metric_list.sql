create or replace function {{ schema }}._metric_list(out name text, out type text, out help text) returns setof record
language sql immutable parallel safe rows 50
begin atomic
select m.*
from (values
    (
        'tidegate_messages_total', 'counter',
        'Outcomes of messages since the channel was made, exact: each was counted in the transaction of its effect.'
    ),
    ('tidegate_dead_lettered_total', 'counter', 'Messages that became dead letters, by reason; exact.'),
    ('tidegate_stranded_total', 'counter', 'Messages found below a floor and put back. Expected 0 for ever.'),
    (
        'tidegate_leases_recovered_total', 'counter',
        'Expired leases taken back: charged (a message alone), halved (of several) or spared (an outage); exact.'
    ),
    (
        'tidegate_recovered_total', 'counter',
        'Members resent; barriers refired, failed, reclaimed or asked about; orphaned guards: by recovery; exact.'
    ),
    ('tidegate_errors_total', 'counter', 'Errors that a tick or a sweep met and went on from; exact.'),
    ('tidegate_positions_total', 'counter', 'Positions drawn: one an entry into ready or blocked, retries included.'),
    ('tidegate_info', 'gauge', 'Always 1; version is that of the installed routines.'),
    ('tidegate_schema_version', 'gauge', 'Number of the newest migration.'),
    ('tidegate_standby', 'gauge', '1 on a standby, which exports neither counters nor gauges of queues.'),
    (
        'tidegate_snapshot_age_seconds', 'gauge',
        'Age of the snapshot that the gauges of channels and tables come from.'
    ),
    ('tidegate_snapshot_duration_seconds', 'gauge', 'How long that snapshot took.'),
    ('tidegate_snapshot_failed_probes', 'gauge', 'Probes of that snapshot that failed: their samples are absent.'),
    (
        'tidegate_snapshot_estimates', 'gauge',
        'Values of that snapshot that are estimates, as more was there than is counted.'
    ),
    ('tidegate_upkeep_interval_seconds', 'gauge', 'How often a job of the upkeep is to run; absent when it is paused.'),
    (
        'tidegate_upkeep_failures', 'gauge',
        'Failures in a row of a job of the upkeep, or of a part of a cleanup; 0 after a success.'
    ),
    ('tidegate_upkeep_last_start_timestamp_seconds', 'gauge', 'When a job of the upkeep last began; absent if never.'),
    (
        'tidegate_upkeep_last_success_timestamp_seconds', 'gauge',
        'When a job of the upkeep last succeeded; absent if never.'
    ),
    ('tidegate_leaders', 'gauge', 'Leaderships: held, expired (nobody has taken over) or resigned.'),
    ('tidegate_leader_epoch', 'gauge', 'How often the leadership of the upkeep was taken over; 0 = never held.'),
    (
        'tidegate_depth', 'gauge',
        'Messages in a place: ready, scheduled, blocked, leased. Exact up to 100000 a place, above that an estimate.'
    ),
    ('tidegate_due', 'gauge', 'Scheduled messages that are due and not ready yet; at most 100001.'),
    ('tidegate_expired', 'gauge', 'Messages in leases that have expired and were not taken back yet.'),
    ('tidegate_leases', 'gauge', 'Leases that are out.'),
    (
        'tidegate_oldest_ready_seconds', 'gauge',
        'How long the longest waiting message has been ready, at least: to the interval of snapshots. 0 = none waits.'
    ),
    (
        'tidegate_oldest_due_seconds', 'gauge',
        'For how long the longest due scheduled message has been due; 0 = none is.'
    ),
    ('tidegate_oldest_expired_seconds', 'gauge', 'For how long the longest expired lease has been; 0 = none is.'),
    ('tidegate_paused', 'gauge', '1 when the channel is paused.'),
    (
        'tidegate_dead_letters', 'gauge',
        'Dead letters that nobody has dealt with; at most 100001 a channel and reason.'
    ),
    (
        'tidegate_dead_letter_oldest_seconds', 'gauge',
        'Age of the oldest dead letter that nobody has dealt with; 0 = none.'
    ),
    ('tidegate_barriers_open', 'gauge', 'Barriers that are open; at most 100001.'),
    (
        'tidegate_barriers_stalled', 'gauge',
        'Open barriers beyond their expiry, or without progress for too long; at most 1001.'
    ),
    ('tidegate_barriers_fire_failed', 'gauge', 'Barriers whose callback could not enter its queue; at most 100001.'),
    ('tidegate_guards', 'gauge', 'Guards: held, expired (held beyond their lease), done. An estimate above 100000.'),
    ('tidegate_incidents', 'gauge', 'Errors of the last ten minutes that a tick or a sweep met and went on from.'),
    ('tidegate_table_rows', 'gauge', 'Live rows of a table, as the statistics estimate them.'),
    ('tidegate_table_dead_rows', 'gauge', 'Dead rows of a table that vacuum has not removed yet, as estimated.'),
    ('tidegate_table_bytes', 'gauge', 'Size of a table with its indexes.'),
    (
        'tidegate_horizon_seconds', 'gauge',
        'Age of the oldest transaction in this database that keeps vacuum from removing rows.'
    ),
    (
        'tidegate_horizon_transactions', 'gauge',
        'How many transactions back vacuum is held, by session, prepared, slot or feedback.'
    )
) as m (name, type, help);
end;

comment on function {{ schema }}._metric_list() is 'Every metric that there can be, its type, and what it means.';
