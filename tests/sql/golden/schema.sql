-- The shape of an installation in lines of text, the same on every PostgreSQL from 14 on:
-- what a pull request changes shows as a diff of schema.txt. Bodies are in install.sql.
with relation as (
    select c.*
    from pg_class c
    where c.relnamespace = 'tidegate'::regnamespace and c.relkind in ('r', 'v', 'c', 'S')
), line (kind, owner, nr, text) as (
    select
        case r.relkind when 'r' then 'table' when 'v' then 'view' when 'c' then 'type' else 'sequence' end,
        r.relname::text, 0, array_to_string(array['', r.reloptions::text], ' ')
    from relation r
    union all
    select
        'column', r.relname, a.attnum,
        concat_ws(
            ' ', a.attname, format_type(a.atttypid, a.atttypmod),
            case when a.attnotnull then 'not null' end,
            case a.attidentity when 'a' then 'generated always as identity' end,
            'default ' || pg_get_expr(d.adbin, d.adrelid)
        )
    from relation r
    inner join pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
    left join pg_attrdef d on d.adrelid = r.oid and d.adnum = a.attnum
    where r.relkind <> 'S'
    union all
    select 'constraint', r.relname, 1000, format('%s %s', n.conname, pg_get_constraintdef(n.oid))
    from relation r
    inner join pg_constraint n on n.conrelid = r.oid and n.contype <> 'n'
    union all
    select 'index', r.relname, 2000, pg_get_indexdef(i.indexrelid)
    from relation r
    inner join pg_index i on i.indrelid = r.oid
    union all
    select
        'routine', p.proname, 0,
        concat_ws(
            ' ', format('(%s) returns %s', pg_get_function_arguments(p.oid), pg_get_function_result(p.oid)),
            l.lanname,
            case p.provolatile when 'i' then 'immutable' when 's' then 'stable' else 'volatile' end,
            case p.proparallel when 's' then 'parallel safe' end,
            case when p.prosecdef then 'security definer' end,
            array_to_string(p.proconfig, '; ')
        )
    from pg_proc p
    inner join pg_language l on l.oid = p.prolang
    where p.pronamespace = 'tidegate'::regnamespace
)
select format('%s %s %s', kind, owner, text)
from line
order by
    kind in ('routine'), owner collate "C",
    array_position(array['table', 'view', 'type', 'sequence', 'column', 'constraint', 'index', 'routine'], kind),
    nr, text collate "C";
