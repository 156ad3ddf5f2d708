select plan(6);
select t.clock_stands();
select topic_create('sick'), topic_create('well'), queue_create('q'), queue_create('r');
select outbox_route('sick', 'q'), outbox_route('well', 'r');
select outbox_put('sick', '1'), outbox_put('well', '2');

-- given one queue that takes nothing
create function public.refuse() returns trigger language plpgsql as $$ begin raise 'no room in this queue'; end $$;
do $$ begin
    execute format(
        'create trigger refuse before insert on ready for each row when (new.channel_id = %s) execute function public.refuse()',
        (select channel_id from channel where name = 'q')
    );
end $$;

-- when both are swept
select t.clock_moves('1 second');
select * from outbox_sweep() \gset
-- then the other's event arrived, this one's stayed, and the error is told
select is(:dispatched, 1, 'the other topic is delivered');
select is(:'first_error'::text, 'no room in this queue', 'the error is told');
select is((select ready from backlog where name = 'sick'), 1::bigint, 'the event stays, uncharged');
select is((select count(*) from incident where routine = 'outbox_sweep'), 1::bigint, 'and it is noted');

-- and what belongs to a stopped run is refused all the same
select run_open('r');
select outbox_put('sick', '3', p_run_id => 'r');
update run set state = 'stopped', finished_at = clock_now() where run_id = 'r';
select t.clock_moves('1 second');
select * from outbox_sweep();
select is((select ready from backlog where name = 'sick'), 1::bigint, 'an event of a stopped run does not stay');
select t.clock_moves('1 second');
select * from outbox_sweep();
select is((select count(*) from dead_letter where run_id = 'r'), 1::bigint, 'it is kept among the dead letters');

select * from finish();
