-- R139
select plan(6);
select queue_create('q');
select guard_claim('s', 'k', 'me');
select metrics_snapshot();
select is((select m.value from metrics() m where m.name = 'tidegate_guards' and m.labels ->> 'state' = 'held'), 1::double precision, 'given a probe that answers');
-- when it cannot look any more
alter table tidegate.guard rename to guard_away;
select is((select array_agg(e.key) from metrics_snapshot() s, jsonb_each(s.errors) e), '{guard}', 'the snapshot names it');
-- then its samples are absent, and the others are there
select is_empty($$select m.value from metrics() m where m.name = 'tidegate_guards'$$, 'absent, not 0');
select is((select m.value from metrics() m where m.name = 'tidegate_snapshot_failed_probes'), 1::double precision, 'and counted');
select isnt_empty($$select m.value from metrics() m where m.name = 'tidegate_depth'$$, 'no other goes with it');
select is((select d.status from doctor() d where d.check_name = 'snapshot'), 'warn', 'the doctor says so');
select * from finish();
