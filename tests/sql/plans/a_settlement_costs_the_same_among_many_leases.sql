-- R25: also in a session that planned its settlements while lease was empty and analysed
select plan(2);
select topic_create('orders', '{"lease": "1 day", "max_runtime": "1 day", "archive": true}');
select queue_create('work', '{"lease": "1 day", "max_runtime": "1 day"}');
vacuum (analyze) tidegate.lease, tidegate.ready;
alter table tidegate.lease set (autovacuum_enabled = off);
create function pg_temp.settle_one(p_topic text) returns bigint
language plpgsql
as $$
declare
    v_delivery record;
begin
    perform outbox_put('orders', '1'), queue_send('work', '1');
    if p_topic = 'orders' then
        select * into strict v_delivery from outbox_claim('orders', 1);
        return t.buffers(format('select outbox_settle(%L, array[%s])', v_delivery.lease_id, v_delivery.message_id));
    end if;
    select * into strict v_delivery from queue_claim('work', 1);
    return t.buffers(format('select queue_ack(%L)', v_delivery.lease_id));
end;
$$;

-- given ten settlements of each kind while there is no other lease
select max(pg_temp.settle_one('orders')) as first_settle from generate_series(1, 10) \gset
select max(pg_temp.settle_one('work')) as first_ack from generate_series(1, 10) \gset

-- when there are three thousand
select count(*) from generate_series(1, 3), outbox_put_many('orders', array_fill('1'::jsonb, array[1000]));
select count(*) from generate_series(1, 3000) as n where (
    select count(*) from outbox_claim('orders', 1) where n > 0
) = 1;
select min(pg_temp.settle_one('orders')) as last_settle from generate_series(1, 3) \gset
select min(pg_temp.settle_one('work')) as last_ack from generate_series(1, 3) \gset

select diag(format('settle touched %s pages, then %s; ack %s, then %s', :first_settle, :last_settle, :first_ack, :last_ack));
select cmp_ok(:last_settle::bigint, '<=', :first_settle + 20::bigint, 'a settlement touches no more pages');
select cmp_ok(:last_ack::bigint, '<=', :first_ack + 20::bigint, 'nor does an ack');

select * from finish();
