-- R3: sweeps run as the installation's owner; what they call is his
select plan(13);
select 'mallory_' || substr(md5(random()::text), 1, 8) as mallory \gset
create role :mallory;
create schema shop;
grant usage, create on schema shop to :mallory;
create table shop.ran (who text, n integer);
grant insert on shop.ran to :mallory;
select topic_create('orders');

-- given a handler of somebody else, with his rights or the caller's
set role :mallory;
create function shop.definer(p_payload jsonb) returns void language sql security definer
set search_path = shop, pg_temp as $$insert into ran values (current_user, 1)$$;
create function shop.invoker(p_payload jsonb) returns void language sql
set search_path = shop, pg_temp as $$insert into ran values (current_user, 1)$$;
reset role;
select throws_ok(
    $$select outbox_route('orders', p_handler => 'shop.definer')$$, 'TG040', null, 'one with his rights is refused'
);
select throws_ok(
    $$select outbox_route('orders', p_handler => 'shop.invoker')$$, 'TG040', null, 'one with the caller''s is refused'
);

-- whoever owns the schema is not who owns the functions
alter schema tidegate owner to :mallory;
select throws_ok(
    $$select outbox_route('orders', p_handler => 'shop.invoker')$$, 'TG040', null, 'also when the schema is his'
);
alter schema tidegate owner to current_user;

-- a handler of the owner, which is given away afterwards
create function shop.given(p_payload jsonb) returns void language sql
set search_path = shop, pg_temp as $$insert into ran values (current_user, (p_payload #>> '{}')::integer)$$;
select outbox_route('orders', p_handler => 'shop.given');
select count(*) from outbox_put_many('orders', array['1', '2', '3']::jsonb[]);
alter function shop.given owner to :mallory;
select is((select s.claimed from outbox_sweep() as s), 0, 'when it is given away, its topic is held back');
select matches((select s.first_error from outbox_sweep() as s), 'belongs to', 'and the answer says why');
select is_empty($$select * from shop.ran$$, 'nothing of it ran');
select is((select max(attempts)::int from ready), 0, 'nobody is charged');

-- one without a search_path of its own would look names up wherever the caller says
alter function shop.given owner to current_user;
alter function shop.given reset search_path;
select matches((select s.first_error from outbox_sweep() as s), 'search_path', 'nor is one without a search_path run');
alter function shop.given set search_path = shop, pg_temp;
select is((select s::text from outbox_sweep() as s), '(3,3,0,0,)', 'mended, it runs');

-- a plain SET outlives the handler; what the sweep calls afterwards is still its own
grant usage on schema tidegate to :mallory;
set role :mallory;
do $do$
begin
    execute format(
        'create function shop._topic_move(%s) returns integer language plpgsql as $$
        begin
            insert into shop.ran values (''captured as '' || current_user, 0);
            return cardinality(p_ctids);
        end;
        $$',
        pg_get_function_identity_arguments('tidegate._topic_move'::regproc)
    );
end;
$do$;
reset role;
create function shop.setter(p_payload jsonb) returns void language sql
set search_path = shop, pg_temp as $$
select set_config('search_path', 'shop, pg_catalog, tidegate', false);
$$;
select topic_create('traps');
select outbox_route('traps', p_handler => 'shop.setter');
select count(*) from outbox_put_many('traps', array['1', '2']::jsonb[]);
select count(*) from outbox_sweep(500, 'traps');
set search_path = tidegate, t, tap, public;
select is_empty($$select * from shop.ran where who like 'captured%'$$, 'a handler''s SET captures no call of the sweep');
select is(t.total('traps', 'dispatched') + t.total('traps', 'retried'), 2::bigint, 'its events are settled by their outcome');
-- also when the last handler call of the batch is one of the isolated pass
select topic_create('mixed');
create function shop.mixer(p_payload jsonb) returns void language plpgsql
set search_path = shop, pg_temp as $$
begin
    perform set_config('search_path', 'shop, pg_catalog, tidegate', false);
    if p_payload = '1' then
        raise exception 'no';
    end if;
end;
$$;
select outbox_route('mixed', p_handler => 'shop.mixer');
select count(*) from outbox_put_many('mixed', array['1', '2']::jsonb[]);
select count(*) from outbox_sweep(500, 'mixed');
set search_path = tidegate, t, tap, public;
select is_empty($$select * from shop.ran where who like 'captured%'$$, 'nor after a failure');
select is(
    t.total('mixed', 'dispatched') + t.total('mixed', 'retried') + t.total('mixed', 'dead_lettered'), 2::bigint,
    'those are settled too'
);

drop owned by :mallory cascade;
drop role :mallory;
select * from finish();
