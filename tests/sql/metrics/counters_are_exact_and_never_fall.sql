-- R134, R138
select plan(8);
create function pg_temp.counted(p_name text, p_label text) returns double precision language sql
as $$ select sum(m.value) from metrics() m where m.name = p_name and p_label in (m.labels ->> 'outcome', m.labels ->> 'reason', '') $$;
select queue_create('q', '{"backoff_base": "0", "jitter": 0}');
-- given a queue of which nobody has taken anything: what has not happened is 0, not absent
select is(pg_temp.counted('tidegate_messages_total', 'acked'), 0::double precision, 'an outcome that never was is 0');
select is(pg_temp.counted('tidegate_dead_lettered_total', 'not_retryable'), 0::double precision, 'and so is a reason');
-- when messages succeed, fail for good and are purged
select count(*) from queue_send_many('q', array_fill('{}'::jsonb, array[10]));
select queue_ack(lease_id) from queue_claim('q', 4) limit 1;
select queue_nack(lease_id, null, 'bad', false) from queue_claim('q', 2) limit 1;
select queue_purge('q');
-- then each is counted, with the reason of its death
select is(pg_temp.counted('tidegate_messages_total', 'acked'), 4::double precision, 'acks are counted');
select is(pg_temp.counted('tidegate_dead_lettered_total', 'not_retryable'), 2::double precision, 'deaths by reason');
select is(pg_temp.counted('tidegate_dead_lettered_total', 'purged'), 4::double precision, 'and what was purged into dead letters');
select is((select count(*) from outcomes o where o.outcome like 'dead\_letter.%'), 0::bigint, 'people see each death once');
-- a transaction that is rolled back has counted nothing
begin;
select count(*) from queue_send_many('q', array_fill('{}'::jsonb, array[3]));
select queue_ack(lease_id) from queue_claim('q', 3) limit 1;
rollback;
create temporary table before as select m.name, m.labels, m.value from metrics() m where m.type = 'counter';
-- when cleanup folds them, and dead letters are given up
select tallies_folded > 0 from cleanup_sweep();
select count(*) from dead_letter_discard(array(select dead_letter_id from dead_letter), 'test');
select cleanup_sweep();
-- then none has fallen, and only what happened has risen
select is_empty(
    $$select b.name, b.labels, b.value, m.value from before b left join metrics() m using (name, labels)
      where m.value is null or m.value < b.value$$,
    'folding takes nothing away'
);
select results_eq(
    $$select m.labels ->> 'outcome', m.value - b.value from before b inner join metrics() m using (name, labels) where m.value > b.value$$,
    $$values ('discarded', 6::double precision)$$, 'what rose is what happened'
);
select * from finish();
