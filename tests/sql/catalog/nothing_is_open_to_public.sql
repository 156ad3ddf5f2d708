begin;
select plan(3);

create function pg_temp.offender(p_schema text) returns setof text
language sql stable
as $$
    select 'execute on ' || p.oid::regprocedure
    from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a
    where p.pronamespace = p_schema::regnamespace and a.grantee = 0
    union all
    select lower(a.privilege_type) || ' on ' || c.oid::regclass
    from pg_class c, aclexplode(c.relacl) as a
    where c.relnamespace = p_schema::regnamespace and a.grantee = 0
    union all
    select lower(a.privilege_type) || ' on ' || c.oid::regclass || '.' || t.attname
    from pg_class c
    inner join pg_attribute t on t.attrelid = c.oid, aclexplode(t.attacl) as a
    where c.relnamespace = p_schema::regnamespace and a.grantee = 0
    union all
    select lower(a.privilege_type) || ' on schema ' || n.nspname
    from pg_namespace n, aclexplode(n.nspacl) as a
    where n.oid = p_schema::regnamespace and a.grantee = 0;
$$;

-- given an open routine (they are born so), table, column and schema, and a closed routine
create schema planted;
create function planted.open() returns void language plpgsql as $$begin end;$$;
create function planted.closed() returns void language plpgsql as $$begin end;$$;
revoke all on function planted.closed() from public;
create table planted.box (box_id integer, label text);
grant select on planted.box to public;
grant update (label) on planted.box to public;
grant usage on schema planted to public;

-- then the query names the open ones
select bag_eq(
    $$select * from pg_temp.offender('planted')$$,
    array[
        'execute on planted.open()', 'select on planted.box', 'update on planted.box.label',
        'usage on schema planted'
    ],
    'what is open to everybody is found'
);

select is_empty($$select * from pg_temp.offender('tidegate')$$, 'nothing is open to PUBLIC');

-- and somebody without any grant is refused
create role t_nobody;
grant usage on schema tidegate, tap to t_nobody;
grant execute on all functions in schema tap to t_nobody;
select throws_ok(
    $$set local role t_nobody; select tidegate.outbox_put('orders', '{}')$$,
    '42501',
    null,
    'a role without a grant may not put'
);

select * from finish();
rollback;
