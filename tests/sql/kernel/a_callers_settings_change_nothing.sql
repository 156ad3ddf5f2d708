-- R107: what a session has set must not break a call, nor change what it does
select queue_create('work', '{"max_attempts": 2, "backoff_base": "0"}');
create function t.life(p_name text) returns text language plpgsql as $$
declare
    v_lease uuid;
    v_ids bigint[];
    v_swept record;
    v_answer settled;
begin
    set local tidegate.tick = 'on';
    perform topic_create(p_name, '{"archive": true}');
    perform outbox_route(p_name, 'work');
    perform outbox_put(p_name, to_jsonb(repeat('x', 4000)), p_priority => 2);
    perform outbox_put_many(p_name, array['1', '2']::jsonb[]);
    perform outbox_put_specs(p_name, '[{"payload": 1, "idempotency_key": "k"}]');
    select * into v_swept from outbox_sweep();
    perform pg_sleep(0.3); -- until a tick is due again
    select c.lease_id, array_agg(c.message_id order by c.message_id) into v_lease, v_ids
    from queue_claim('work', 10) as c group by c.lease_id;
    v_answer := outbox_settle(
        v_lease, v_ids[1:3], jsonb_build_array(jsonb_build_object('message_id', v_ids[4], 'retry_in', '0.5 s', 'retryable', false))
    );
    return v_swept::text || v_answer::text || (select s.keys_removed from cleanup_sweep() as s);
end;
$$;
-- Each under settings of its own, in a session of its own that has planned nothing yet; all of it is undone.
create table t.outcome (nr serial, settings text, said text);
create function t.live(p_settings text) returns void language plpgsql as $$
begin
    execute p_settings;
    raise exception '%', t.life('orders');
exception
    when others then
        insert into t.outcome (settings, said) values (p_settings, sqlerrm);
end;
$$;
select t.live('set local search_path = tidegate, t, tap, public');
\c
select t.live('set local array_nulls = off');
\c
select t.live('set local standard_conforming_strings = off; set local quote_all_identifiers = on');
\c
select t.live('set local plpgsql.extra_errors = "all"; set local plpgsql.extra_warnings = "all"');
\c
select t.live('set local intervalstyle = sql_standard; set local datestyle = german; set local timezone = "Pacific/Apia"');
\c
select t.live('set local intervalstyle = iso_8601; set local statement_timeout = "90s"');
\c
select t.live(
    'set local enable_indexscan = off; set local enable_tidscan = off; set local enable_nestloop = off; '
    'set local enable_hashagg = off; set local work_mem = "64kB"'
);
\c
select t.live('set local transform_null_equals = on; set local extra_float_digits = -15');

select plan(9);
select is(said, '(4,4,0,0,)(3,0,1,f)0', settings) from t.outcome order by nr;
select is_empty($$select sqlstate, message from incident$$, 'nothing was caught and noted');

select * from finish();
