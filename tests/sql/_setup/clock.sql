-- A standing clock: the one clock of the installation is replaced, in this database only.
create function t.clock_stands(p_at timestamptz default '2026-01-01 12:00+00') returns void
language plpgsql
as $$
begin
    execute format(
        'create or replace function tidegate.clock_now() returns timestamptz '
        'language sql volatile parallel safe return %L::timestamptz',
        p_at
    );
end;
$$;

-- Ticks keep a distance of ten times what the last one took, in real time, of which a standing clock knows nothing: it is
-- forgotten, where no open transaction holds it.
create function t.clock_moves(p_by interval) returns void
language sql
as $$
    select t.clock_stands(tidegate.clock_now() + p_by);
    update tidegate.floor
    set took = '0', tick_at = case when has_more then ticked_at else least(tick_at, ticked_at + interval '250 ms') end
    where ctid = any(array(
        select f.ctid from tidegate.floor f where f.took > '0' for update skip locked
    ));
$$;
