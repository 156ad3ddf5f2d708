create or replace function {{ schema }}.dead_letter_stats(
    out facet text,
    out name text,
    out entries bigint,
    out dead bigint,
    out requeued bigint,
    out resolved bigint,
    out discarded bigint,
    out requeues bigint,
    out oldest_at timestamptz,
    out newest_at timestamptz,
    out dead_since timestamptz
) returns setof record
language plpgsql stable rows 50
security definer
set search_path = {{ schema }}, pg_temp
as $$
#variable_conflict use_column
/*
 * Rows, which a person reads in psql and a program anywhere: each facet answers the same questions about its entries.
 * The table is read once, into one row for each different ending; those are few enough to be cut in four ways.
 */
begin
    return query
    with ending as (
        select
            d.reason, d.kind, d.channel, left(split_part(d.last_error, E'\n', 1), 120) as error,
            count(*) as entries,
            count(*) filter (where d.state = 'dead') as dead,
            count(*) filter (where d.state = 'requeued') as requeued,
            count(*) filter (where d.state = 'resolved') as resolved,
            count(*) filter (where d.state = 'discarded') as discarded,
            sum(d.requeued_count) as requeues,
            min(d.dead_at) as oldest_at,
            max(d.dead_at) as newest_at,
            min(d.dead_at) filter (where d.state = 'dead') as dead_since
        from dead_letter d
        group by d.reason, d.kind, d.channel, 4
    ), counted as (
        select
            case grouping(e.reason, e.channel, r.error) when 7 then 1 when 3 then 2 when 5 then 3 else 4 end as cut,
            e.kind, coalesce(e.reason, e.channel, r.error) as name,
            sum(e.entries)::bigint as entries, sum(e.dead)::bigint as dead, sum(e.requeued)::bigint as requeued,
            sum(e.resolved)::bigint as resolved, sum(e.discarded)::bigint as discarded,
            sum(e.requeues)::bigint as requeues,
            min(e.oldest_at) as oldest_at, max(e.newest_at) as newest_at, min(e.dead_since) as dead_since
        from ending e
        cross join lateral (select regexp_replace(e.error, '[0-9]+', '#', 'g') as error) r
        group by grouping sets ((), (e.reason), (e.kind, e.channel), (r.error))
    ), ranked as (
        select c.*, row_number() over (partition by c.cut order by c.dead desc, c.entries desc, c.name) as place
        from counted c
    )
    select
        (array['total', 'reason', r.kind, 'error'])[r.cut], r.name,
        coalesce(r.entries, 0), coalesce(r.dead, 0), coalesce(r.requeued, 0), coalesce(r.resolved, 0),
        coalesce(r.discarded, 0), coalesce(r.requeues, 0), r.oldest_at, r.newest_at, r.dead_since
    from ranked r
    where r.cut < 4 or r.place <= 10
    order by r.cut, r.place;
end;
$$;

comment on function {{ schema }}.dead_letter_stats() is
'Dead letters in numbers: a row for all of them (facet total), one for each reason and each channel (facet queue or topic), most dead first, and one for each of the ten commonest errors, numbers in them shown as #. Each says how many entries there are, how many of them are dead, requeued, resolved and discarded, how often they were requeued, the oldest and the newest death, and since when something is dead that nobody has taken care of. Without dead letters only the total, of 0. It reads the whole table.';
