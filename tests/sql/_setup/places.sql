-- Where the messages of a channel stand, for "then": ready=2 lease=1, nothing for an empty place.
create function t.places(p_channel text) returns text
language sql stable
as $$
    select coalesce(string_agg(format('%s=%s', p.place, p.held), ' ' order by p.nr), '')
    from tidegate.channel c,
        lateral (
            select 1, 'ready', count(*) from tidegate.ready r where r.channel_id = c.channel_id
            union all
            select 2, 'scheduled', count(*) from tidegate.scheduled s where s.channel_id = c.channel_id
            union all
            select 3, 'lease', coalesce(sum(l.message_count), 0)
            from tidegate.lease l where l.channel_id = c.channel_id
            union all
            select 4, 'dead', count(*)
            from tidegate.dead_letter d where d.channel_id = c.channel_id and d.state = 'dead'
        ) as p (nr, place, held)
    where c.name = p_channel and p.held > 0;
$$;

-- The total of a counter of a channel.
create function t.total(p_channel text, p_outcome text) returns bigint
language sql stable
as $$
    select coalesce(sum(y.amount), 0)::bigint
    from tidegate.tally y
    inner join tidegate.channel c on c.channel_id = y.channel_id
    where c.name = p_channel and y.outcome = p_outcome;
$$;

-- What a function raises: SQLSTATE, message and hint, for tests that read all three.
create function t.raised(p_query text, out state text, out message text, out hint text)
language plpgsql
as $$
begin
    execute p_query;
exception
    when others then
        get stacked diagnostics
            state = returned_sqlstate, message = message_text, hint = pg_exception_hint;
end;
$$;
