create or replace function {{ schema }}.barrier_results(
    p_name text, p_epoch bigint, p_after integer default 0, p_limit integer default 1000
) returns setof {{ schema }}.member_result
language plpgsql stable rows 1000
security definer
set search_path = {{ schema }}, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
begin
    if p_limit is null or p_limit not between 1 and 10000 then
        perform _bad_argument('p_limit', p_limit::text, 'Read between 1 and 10000 results at a time.');
    end if;
    return query
    select r.member, r.error is not null, r.result, r.error, r.at
    from barrier_epoch e
    cross join lateral (
        select * from barrier_result n
        where n.epoch = e.epoch and n.member > p_after
        order by n.member
        limit p_limit
    ) r
    where e.epoch = p_epoch and e.name = p_name
    order by r.member;
end;
$$;

comment on function {{ schema }}.barrier_results(text, bigint, integer, integer) is
'Results of the members of an epoch above p_after, in their order: a page. Those of a former epoch are there until cleanup removes them. No rows when there are none, or no such barrier. Errors: TG010 bad p_limit.';
