-- as a_handler_never_ticks, where the handler itself asks for it, as longer transactions do
select plan(4);
create schema shop;
create function shop.slow(p_payload jsonb) returns void language plpgsql
set search_path = tidegate, pg_temp as $$
begin
    perform pg_sleep(1.1);
    update floor set took = '0', tick_at = ticked_at; -- one is due
    perform set_config('tidegate.tick', 'on', true);
    perform queue_claim('mail');
end;
$$;
select queue_create('mail');
select count(*) from queue_send_many('mail', array['1', '2', '3']::jsonb[]);
-- what came in meanwhile, beyond what this work takes, is there to be claimed
select queue_send('mail', '4');

set statement_timeout = '2 s';
select w.acked from queue_work('mail', 'shop.slow', 3) as w \gset
reset statement_timeout;
select is(:acked, 1, 'one is done, two go back');
select is_empty(
    $$select r.position from ready r cross join lateral (
        select f.floors from floor f where f.channel_id = r.channel_id order by f.floor_id desc limit 1
    ) n where r.position <= n.floors[r.priority + 1]$$,
    'above every floor'
);
select results_eq($$select payload from queue_claim('mail', 100)$$, $$values ('2'::jsonb), ('3')$$, 'and are found');
select results_eq(
    $$select (m).payload from lease, unnest(messages) m order by 1$$, $$values ('2'::jsonb), ('3'), ('4')$$,
    'beside what the handler claimed'
);

select * from finish();
