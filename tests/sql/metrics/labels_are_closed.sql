-- R138: of each label every value is known, but for the names of channels and tables, which are configuration.
select plan(4);
select queue_create('q');
select topic_create('t');
select queue_send('q', '{}', p_tenant => 'acme', p_run_id => 'run-1', p_group_key => 'g', p_job_key => 'j');
select queue_nack(lease_id, null, 'the error', false) from queue_claim('q');
select barrier_open('a barrier', 2);
select guard_claim('scope', 'key', 'owner');
select leader_acquire('some leader', 'me');
select metrics_snapshot();
select is_empty(
    $$select distinct l.key, l.value from metrics() m cross join jsonb_each_text(m.labels) l
      where case l.key
          when 'channel' then l.value not in ('q', 't')
          when 'kind' then l.value not in ('topic', 'queue')
          when 'place' then l.value not in ('ready', 'scheduled', 'blocked', 'leased')
          when 'outcome' then l.value <> all(array[
              'acked', 'dispatched', 'retried', 'released', 'expired', 'dead_lettered', 'requeued', 'discarded', 'cancelled', 'purged'
          ])
          when 'reason' then l.value <> all(array[
              'exhausted', 'not_retryable', 'expired', 'malformed', 'unknown_handler', 'cancelled', 'purged'
          ])
          when 'state' then l.value not in ('held', 'expired', 'resigned', 'done')
          when 'holder' then l.value not in ('session', 'prepared', 'slot', 'feedback')
          when 'upkeep' then l.value <> all(array(select d.job from maintenance_due() d))
          when 'table' then to_regclass('tidegate.' || l.value) is null
          when 'routine' then l.value <> 'other' and to_regproc('tidegate.' || l.value) is null
          when 'how' then l.value not in ('charged', 'halved', 'spared')
          when 'what' then l.value not in ('resent', 'refired', 'failed', 'reclaimed', 'asked', 'guards')
          when 'version' then l.value <> (schema_version()).version
          else true
      end$$,
    'no label says more'
);
select is_empty(
    $$select m.name, m.labels, count(*) from metrics() m group by m.name, m.labels having count(*) > 1$$, 'each sample comes once'
);
select is_empty(
    $$select m.name from _metric_list() m
      where m.name !~ '^tidegate_[a-z_]+$' or (m.type = 'counter') <> (m.name like '%\_total') or m.type not in ('counter', 'gauge')$$,
    'names follow the conventions'
);
-- every reason that a dead letter can have is counted
select is(
    (select array_agg(distinct m.labels ->> 'reason' order by m.labels ->> 'reason') from metrics() m where m.name = 'tidegate_dead_lettered_total'),
    (select array_agg(r[1] order by r[1]) from pg_constraint c,
        regexp_matches(pg_get_constraintdef(c.oid), '''([a-z_]+)''', 'g') r where c.conname = 'dead_letter_reason_is_known'),
    'all reasons are there'
);
select * from finish();
