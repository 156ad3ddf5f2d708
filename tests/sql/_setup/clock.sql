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

create function t.clock_moves(p_by interval) returns void
language sql
as $$select t.clock_stands(tidegate.clock_now() + p_by)$$;
