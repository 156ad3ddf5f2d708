-- A result has failed when it has an error: its row, the bit of its slot and the callback say so of the same members.
begin;
select plan(9);
select t.clock_stands();
select queue_create('q');
select queue_create('work', '{"max_attempts": 1, "lease": "1 minute"}');
select epoch from barrier_send('b', 'work', array_fill('1'::jsonb, array[16]), 'q', p_policy => 'collect') \gset
create temporary view held as select l.lease_id, m.member, m.message_id from lease l, unnest(l.messages) m;
-- members that end by themselves
select is(
    array[
        barrier_arrive('b', :epoch, 1), barrier_arrive('b', :epoch, 2, 'null'), barrier_fail('b', :epoch, 3),
        barrier_fail('b', :epoch, 4, ''), barrier_fail('b', :epoch, 5, '   '), barrier_fail('b', :epoch, 6, E'\n\t'),
        barrier_fail('b', :epoch, 7, 'disk full')
    ], array['arrived', 'arrived', 'failed', 'failed', 'failed', 'failed', 'failed'], 'by themselves, whatever error they give'
);
select is(
    barrier_fail('b', :epoch, 1, 'late') || barrier_arrive('b', :epoch, 3, '1'), 'duplicateduplicate', 'once'
);
-- and by their messages; those of the first seven change nothing any more
select count(*) from queue_claim('work', 7) \gset
select queue_nack(lease_id, array_agg(message_id) filter (where member < 3)), queue_ack(lease_id, array_agg(message_id) filter (where member > 2))
from held group by lease_id;
select lease_id as ours from queue_claim('work', 7) limit 1 \gset
select queue_ack(:'ours', array_agg(message_id) filter (where member = 8)),
    queue_ack(:'ours', array_agg(message_id) filter (where member = 9), '{"error": "not one"}'),
    queue_nack(:'ours', array_agg(message_id) filter (where member = 10)),
    queue_nack(:'ours', array_agg(message_id) filter (where member = 11), '  '),
    queue_settle(
        :'ours', array_agg(message_id) filter (where member = 12),
        jsonb_agg(jsonb_build_object('message_id', message_id, 'error', case member when 13 then '  ' end)) filter (where member > 12)
    )
from held;
select queue_cancel('work', array(select message_id from queue_peek('work') order by 1 limit 1)); -- that of 15
select count(*) from queue_claim('work') \gset
select t.clock_moves('2 minutes');
select _lease_expire(channel_id, '-infinity', 10) from channel where name = 'work'; -- the last one
select is((select (state, outcome)::text from barrier_status('b')), '(fired,partial)', 'the last one fires');
select is(t.places('work'), 'dead=7', 'and no message is left');
-- then all agree
create temporary view told as select payload from queue_peek('q');
select is(
    array(select member from barrier_results('b', :epoch) where is_failed), '{3,4,5,6,7,10,11,13,14,15,16}', 'these have failed'
);
select is(
    array(
        select r.first_member + s.slot - r.first_member + bit * r.slot_count
        from barrier_slot s, barrier_range r, generate_series(0, 61) bit
        where s.epoch = :epoch and r.epoch = :epoch and s.failed & (1::bigint << bit) <> 0
        order by 1
    )::integer[],
    array(select member from barrier_results('b', :epoch) where is_failed), 'by their slots'
);
select results_eq(
    $$select (f ->> 'member')::integer, f ->> 'error' from told, jsonb_array_elements(payload -> 'failures') f$$,
    format($$select member, error from barrier_results('b', %s) where is_failed$$, :epoch), 'by the callback, with their errors'
);
select is(
    (select payload - '{barrier,epoch,failures,reason,payload}'::text[] from told),
    jsonb_build_object(
        'outcome', 'partial', 'members', 16, 'arrived', 5, 'failed', 11,
        'results', (select jsonb_agg(result order by member) from barrier_results('b', :epoch))
    ), 'which counts them, and has the results of the others'
);
select is_empty(
    format(
        $$select * from barrier_results('b', %s) where is_failed <> (error is not null) or error = '' or is_failed and result is not null$$,
        :epoch
    ), 'who failed has an error and no result'
);
select * from finish();
rollback;
