{#- The application of `tidegate demo`: a shop that knows Tidegate by its functions, like any other. -#}
create schema shop;

create table shop.customer_order (
    order_id bigint generated always as identity primary key,
    customer text not null,
    price text not null,
    placed_at timestamptz not null default now()
);

-- What each consumer has done. The keys would refuse a second delivery.
create table shop.parcel (order_id bigint primary key, event_id uuid not null);
create table shop.letter (order_id bigint primary key, event_id uuid not null);
create table shop.payment (order_id bigint primary key, amount numeric not null);

-- An order and its events, in the transaction of whoever calls.
create function shop.place_order(p_customer text, p_price text, p_is_invoiced boolean)
returns bigint
language plpgsql volatile
set search_path = shop, pg_temp
as $$
declare
    v_order_id bigint;
    v_payload jsonb;
begin
    insert into customer_order (customer, price) values (p_customer, p_price) returning order_id into v_order_id;
    v_payload := jsonb_build_object('order_id', v_order_id, 'customer', p_customer, 'price', p_price);
    perform {{ schema }}.outbox_put('order.placed', v_payload);
    perform {{ schema }}.outbox_put('order.paid', v_payload);
    perform {{ schema }}.outbox_put('order.shipped', v_payload) where v_order_id % 50 = 0;
    perform {{ schema }}.outbox_put('order.invoiced', v_payload) where p_is_invoiced;
    return v_order_id;
end;
$$;

-- The handler of order.paid. The bank does not answer the first time for some; one price is no number at all.
create function shop.book_payment(p_message {{ schema }}.message)
returns void
language plpgsql volatile
set search_path = shop, pg_temp
as $$
begin
    if p_message.attempts = 0 and (p_message.payload ->> 'order_id')::bigint % 100 = 30 then
        raise exception 'the bank does not answer';
    end if;
    insert into payment (order_id, amount)
    values ((p_message.payload ->> 'order_id')::bigint, (p_message.payload ->> 'price')::numeric);
end;
$$;

-- A worker's effect and its acknowledgement, together: exactly once.
create function shop.finish(p_table regclass, p_lease_id uuid, p_order_ids bigint[], p_event_ids uuid[])
returns boolean
language plpgsql volatile
set search_path = shop, pg_temp
as $$
begin
    if (select lost from {{ schema }}.queue_ack(p_lease_id)) then
        return false;
    end if;
    execute format('insert into %s (order_id, event_id) select * from unnest($1, $2)', p_table)
    using p_order_ids, p_event_ids;
    return true;
end;
$$;

select {{ schema }}.topic_create('order.placed');
select {{ schema }}.topic_create('order.paid', '{"max_attempts": 3, "backoff_base": "200 milliseconds"}');
select {{ schema }}.topic_create('order.shipped');
select {{ schema }}.topic_create('order.invoiced');
select {{ schema }}.queue_create('pack');
select {{ schema }}.queue_create('letters');
select {{ schema }}.outbox_route('order.placed', p_queue => 'pack');
select {{ schema }}.outbox_route('order.placed', p_queue => 'letters');
select {{ schema }}.outbox_route('order.paid', p_handler => 'shop.book_payment({{ schema }}.message)');

-- Each way that an event can go: how many there are, and what the tables of the shop know of them. What is relayed
-- leaves the database, so that only its reader can count it.
create view shop.flow as
with placed as (
    select count(*) as orders, count(*) filter (where order_id % 50 = 0) as shipped
    from shop.customer_order
), way as (
    select 'order.placed' as topic, 'queue pack' as target, 'pack' as channel, placed.orders as committed,
        (select count(*) from shop.parcel) as delivered
    from placed
    union all
    select 'order.placed', 'queue letters', 'letters', placed.orders, (select count(*) from shop.letter)
    from placed
    union all
    select 'order.paid', 'SQL handler', 'order.paid', placed.orders, (select count(*) from shop.payment)
    from placed
    union all
    select 'order.shipped', 'standard output', 'order.shipped', placed.shipped, null
    from placed
    union all
    select 'order.invoiced', 'a Redis stream', 'order.invoiced', placed.orders, null
    from placed
)
select
    way.*,
    coalesce((
        select o.total from {{ schema }}.outcomes o where o.name = way.channel and o.outcome = 'retried'
    ), 0) as retried,
    {{ schema }}.dead_letter_count(p_channel => way.channel) as dead
from way;

-- What must hold at the end: every order once, nobody saw one that was never committed, nothing is left over.
create view shop.books as
with seen as (
    select order_id from shop.parcel
    union all select order_id from shop.letter
    union all select order_id from shop.payment
)
select
    (select count(*) from shop.customer_order) as orders,
    (select array_agg(order_id) from shop.customer_order) as order_ids,
    (
        select count(*) from seen
        where not exists (select from shop.customer_order o where o.order_id = seen.order_id)
    ) as phantoms,
    (select sum(ready + scheduled + leased) from {{ schema }}.backlog) as left_over;

create view shop.loss as
select channel, reason, attempts, last_error from {{ schema }}.dead_letter_list();
