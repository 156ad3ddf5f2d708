-- R19, R58, R59
select plan(12);
select t.clock_stands();
select queue_create('work', '{"max_attempts": 1}');
select queue_send('work', '{"n": 1}', p_priority => 2);

create function pg_temp.die() returns void language plpgsql as $$
declare
    v_delivery record;
begin
    perform t.clock_moves('1 second');
    select * into strict v_delivery from queue_claim('work');
    perform outbox_settle(
        v_delivery.lease_id, '{}',
        jsonb_build_array(jsonb_build_object('message_id', v_delivery.message_id, 'error', 'boom'))
    );
end;
$$;
select pg_temp.die();
select dead_letter_id as id from dead_letter \gset

-- when it is requeued twice
select results_eq(
    format($$select outcome from dead_letter_requeue(array[%s, %1$s], p_note => 'fixed')$$, :id),
    $$values ('requeued')$$,
    'an id named twice is requeued once'
);
select results_eq(
    format($$select outcome from dead_letter_requeue(array[%s, 999])$$, :id),
    $$values ('already_requeued'), ('unknown')$$,
    'a second requeue is refused while the child lives, and a missing id is told'
);
select is(t.places('work'), 'ready=1', 'there is one child');
select results_eq(
    $$select priority::int, attempts::int from ready$$, $$values (2, 0)$$, 'at its old priority, its attempts reset'
);
select results_eq(
    $$select state, requeued_count, notes -> 0 ->> 'note' from dead_letter$$,
    $$values ('requeued', 1, 'fixed')$$,
    'the entry keeps the audit'
);

-- when the child dies
select pg_temp.die();
select results_eq(
    $$select dead_letter_id, state, failure_count from dead_letter$$,
    format($$values (%s::bigint, 'dead', 2)$$, :id),
    'it lands in the same entry, once more'
);

-- when the next child succeeds
select is(
    (select outcome from dead_letter_requeue(array[:id], p_reset_attempts => false)), 'requeued', 'a dead entry may be requeued again'
);
select t.clock_moves('1 second');
select lease_id, attempt from queue_claim('work') \gset
select is(:attempt, 2, 'attempts go on where they were when they are not reset');
select is((select a.acked from queue_ack(:'lease_id') as a), 1, 'the child succeeds');
select is((select state from dead_letter), 'resolved', 'its success resolves the entry');
select results_eq(
    format($$select outcome from dead_letter_requeue(array[%s])$$, :id), $$values ('already_resolved')$$, 'which stays resolved'
);
select is(t.places('work'), '', 'nothing is left');

select * from finish();
