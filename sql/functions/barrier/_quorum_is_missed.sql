create or replace function {{ schema }}._quorum_is_missed(p_name text, p_epoch bigint) returns boolean
language sql volatile
begin atomic
select b.is_sealed and b.quorum > b.member_count - coalesce(
    (
        select sum(pg_catalog.bit_count(s.failed::bit(64)))
        from {{ schema }}.barrier_slot s
        where s.epoch = p_epoch
    ), 0
)
from {{ schema }}.barrier b
where b.name = p_name and b.epoch = p_epoch and b.policy = 'quorum';
end;

comment on function {{ schema }}._quorum_is_missed(text, bigint) is
'Whether so many members of a sealed barrier have failed that its quorum cannot be reached. Null when it has none.';
