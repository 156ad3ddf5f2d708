create or replace function {{ schema }}._member_end(
    p_messages {{ schema }}.message[], p_errors text[] default null, p_result jsonb default null,
    p_results jsonb default null
) returns void
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
as $$
/*
 * Called by the routines that end messages, before they touch anything else that has its place after slots in the order
 * of locks. What the barrier answers is nobody's concern here: a member of a former epoch, or of a closed barrier, has
 * ended all the same.
 */
declare
    v_member record;
begin
    perform _member_lock(p_messages, false);
    for v_member in
        select m.message_id, m.barrier, m.epoch, m.member, p_errors[m.ordinality] as error
        from unnest(p_messages) with ordinality m
        where m.barrier is not null
        order by m.epoch, m.member
    loop
        perform _barrier_settle(
            v_member.barrier, v_member.epoch, v_member.member,
            case when p_errors is null then coalesce(p_results -> v_member.message_id::text, p_result) end,
            case when p_errors is not null then _error_text(v_member.error) end
        );
    end loop;
end;
$$;

comment on function {{ schema }}._member_end({{ schema }}.message[], text[], jsonb, jsonb) is
'Let the members that messages belong to arrive with their results (p_results by message_id, or else p_result) or, where p_errors runs beside the messages, fail: in the transaction in which these end. Errors: TG030 not READ COMMITTED.';
