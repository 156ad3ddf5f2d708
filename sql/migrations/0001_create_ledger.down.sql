drop type {{ schema }}.installed;
drop table {{ schema }}.routine;
drop table {{ schema }}.migration;

do $$
begin
    -- The schema goes only when it is empty and ours to drop.
    drop schema {{ schema }};
exception
    when dependent_objects_still_exist or insufficient_privilege then null;
end;
$$;
