select plan(2);
select t.clock_stands();
create function public.refuse_seven(p_payload jsonb) returns void language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
    if p_payload = '7' then
        raise 'not this one';
    end if;
end;
$$;
select topic_create('t'), queue_create('q');
select outbox_route('t', 'q'), outbox_route('t', p_handler => 'public.refuse_seven(jsonb)');

-- given events of two priorities, and a handler that fails those of one
select outbox_put('t', '7', p_priority => 7), outbox_put('t', '5', p_priority => 5), outbox_put('t', '0');
select t.clock_moves('1 second');
select results_eq(
    $$select dispatched, retried from outbox_sweep()$$, $$values (2, 1)$$, 'two are delivered, one is tried again'
);
-- then claims of the queue look for the other alone
select results_eq(
    $$select p.priority::integer from channel_priority p inner join channel c using (channel_id) where c.name = 'q'$$,
    $$values (5)$$,
    'a priority is declared with its first message'
);

select * from finish();
