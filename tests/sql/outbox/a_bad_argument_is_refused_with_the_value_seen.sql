-- R107, Must hold 8: a clear error with the value seen and the next step; nothing lost, nothing half done
select plan(27);
select topic_create('orders');
select topic_create('needy', '{"tenant_required": true}');
select queue_create('work');

create function pg_temp.refused(p_query text, p_state text, p_seen text, p_about text) returns setof text
language sql
as $$
    select ok(
        r.state = p_state and strpos(r.message, p_seen) > 0 and length(r.hint) > 10,
        format('%s (%s: %s | %s)', p_about, r.state, r.message, r.hint)
    )
    from t.raised(p_query) as r;
$$;

select pg_temp.refused($$select outbox_put('ordes', '{}')$$, 'TG020', 'ordes', 'an unknown topic');
select pg_temp.refused($$select outbox_put(null, '{}')$$, 'TG020', 'null', 'no topic at all');
select pg_temp.refused($$select * from outbox_claim('ordes')$$, 'TG020', 'ordes', 'a claim from an unknown topic');
select pg_temp.refused($$select * from queue_claim('wrk')$$, 'TG020', 'wrk', 'a claim from an unknown queue');
select pg_temp.refused($$select outbox_route('orders', 'wrk')$$, 'TG020', 'wrk', 'an unknown queue in a route');
select pg_temp.refused($$select outbox_route('ordes', 'work')$$, 'TG020', 'ordes', 'an unknown topic in a route');
select pg_temp.refused($$select outbox_route('orders')$$, 'TG010', 'null', 'a route to nowhere');
select pg_temp.refused(
    $$select outbox_route('orders', p_handler => 'shop.nobody(jsonb)')$$, 'TG041', 'shop.nobody', 'an unknown handler'
);
select pg_temp.refused($$select * from outbox_claim('orders', 0)$$, 'TG010', 'p_limit', 'a limit of 0');
select pg_temp.refused($$select * from outbox_claim('orders', null)$$, 'TG010', 'p_limit', 'no limit');
select pg_temp.refused($$select * from queue_claim('work', -1)$$, 'TG010', '-1', 'a negative limit');
select pg_temp.refused($$select * from outbox_sweep(0)$$, 'TG010', 'p_limit', 'a sweep of nothing');
select pg_temp.refused($$select * from outbox_claim('orders', 1, '-1 second')$$, 'TG010', 'p_lease', 'a negative lease');
select pg_temp.refused($$select * from outbox_claim('orders', 1, '0')$$, 'TG010', 'p_lease', 'a lease of no time');
select pg_temp.refused(
    $$select * from outbox_claim('orders', 1, '2 hours')$$, 'TG010', 'p_lease', 'a lease above max_runtime'
);
select pg_temp.refused($$select outbox_put('orders', null)$$, 'TG010', 'p_payload', 'no payload');
select pg_temp.refused(
    $$select outbox_put('orders', '{}', p_priority => 10)$$, 'TG010', 'p_priority', 'a priority out of range'
);
select pg_temp.refused(
    $$select outbox_put('orders', '{}', p_headers => '[1]')$$, 'TG010', 'p_headers', 'headers that are no object'
);
select pg_temp.refused($$select outbox_put('needy', '{}')$$, 'TG010', 'p_tenant', 'a missing tenant');
select pg_temp.refused(
    $$select topic_create('orders', '{"leese": "1 s"}')$$, 'TG010', 'leese', 'an unknown policy key'
);
select pg_temp.refused(
    $$select topic_configure('orders', '{"lease": "-5 s"}')$$, 'TG010', '-5 s', 'a negative policy'
);
select pg_temp.refused(
    $$select topic_configure('orders', '{"retention": "0"}')$$, 'TG010', 'retention', 'a retention of no time'
);
select pg_temp.refused($$select topic_create('Ünicode name')$$, 'TG010', 'nicode name', 'an odd topic name');
select pg_temp.refused($$select * from outbox_put_specs('orders', '{}')$$, 'TG010', 'p_specs', 'specs that are no list');

-- what PostgreSQL itself refuses: text that is no JSON, and a NUL inside it
select throws_ok($$select outbox_put('orders', '{not json')$$, '22P02', null, 'text that is no JSON');
select throws_ok($$select outbox_put('orders', '"\u0000"')$$, '22P05', null, 'a NUL inside a payload');

select is(t.places('orders') || t.places('needy') || t.places('work'), '', 'nothing is half done');

select * from finish();
