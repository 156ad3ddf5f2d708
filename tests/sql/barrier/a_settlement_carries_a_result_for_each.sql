begin;
select plan(9);
select queue_create('work', '{"max_attempts": 1}');
select queue_create('q');
-- given members in one lease
select epoch from barrier_send('b', 'work', array['1', '2', '3', '4', '5']::jsonb[], 'q', p_policy => 'collect') \gset
select lease_id as batch from queue_claim('work', 5) limit 1 \gset
select jsonb_object_agg(m.member, m.message_id) as ids from lease, unnest(messages) m where lease_id = :'batch' \gset
-- when they are settled with results of several shapes, and one of a message that fails
select is(
    (select (acked, dead_lettered)::text from queue_settle(
        :'batch', array[(:'ids'::jsonb ->> '1')::bigint, (:'ids'::jsonb ->> '2')::bigint, (:'ids'::jsonb ->> '3')::bigint],
        jsonb_build_array(jsonb_build_object('message_id', (:'ids'::jsonb -> '4'), 'error', 'bad')),
        jsonb_build_object(
            :'ids'::jsonb ->> '1', jsonb_build_object('words', 100), :'ids'::jsonb ->> '2', jsonb_build_array(1, 2),
            :'ids'::jsonb ->> '4', 'not stored', '0', 'nobody'
        )
    )),
    '(3,1)', 'results do not change who is settled'
);
-- then each arrived with its own, one without any, and a failure has none
select is(
    (select jsonb_agg(jsonb_build_array(member, is_failed, result) order by member) from barrier_results('b', :epoch)),
    '[[1, false, {"words": 100}], [2, false, [1, 2]], [3, false, null], [4, true, null]]'::jsonb,
    'each member has the result of its message'
);
-- and a null is a result as any
select queue_settle(
    :'batch', array[(:'ids'::jsonb ->> '5')::bigint], p_results => jsonb_build_object(:'ids'::jsonb ->> '5', null)
);
select is(
    (select payload -> 'results' from queue_peek('q')), '[{"words": 100}, [1, 2], null, null, null]'::jsonb,
    'the callback has them at their places'
);
select is(
    (select result::text from barrier_results('b', :epoch) where member = 5), 'null', 'a JSON null is kept as one'
);
-- when a repeat says something else
select is((select lost from queue_settle(:'batch', array[(:'ids'::jsonb ->> '1')::bigint], p_results => '{}')), true, 'it is lost');
select is(
    (select result from barrier_results('b', :epoch) where member = 1), '{"words": 100}'::jsonb, 'the first result stays'
);
-- when a message belongs to nobody
select count(*) from queue_send('work', '1') \gset
select lease_id as plain, message_id as id from queue_claim('work') \gset
select is(
    (select acked from queue_settle(:'plain', array[:id], p_results => jsonb_build_object(:'id'::text, 1))), 1,
    'its result is kept nowhere'
);
select is((select count(*) from barrier_result), 5::bigint, 'really nowhere');
-- when results are not by message
select throws_ok(
    format('select queue_settle(%L, null, p_results => %L)', :'plain', '[1]'), 'TG010', null, 'an array is refused'
);
select * from finish();
rollback;
