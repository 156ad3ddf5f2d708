{% from "macros/group.sql" import next_of_group %}
create or replace function {{ schema }}._turn_seize(p_channel_id integer, p_group_key text, p_message_id bigint)
returns boolean
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
/*
 * For who ends messages of groups and waits for nobody: what it locks here, _message_end needs. That is the turn, and,
 * where the message has it, the row of the next one in blocked, which a send by its job key may be replacing. What is
 * left for that stays where it is, with the turn; what comes in below it meanwhile is in nobody's hands.
 */
declare
    v_turn group_turn;
    v_next bigint;
begin
    select * into v_turn from group_turn t
    where t.channel_id = p_channel_id and t.group_key = p_group_key
    order by t.turn desc
    limit 1
    for update skip locked;
    if not found then
        return not exists (
            select from group_turn t where t.channel_id = p_channel_id and t.group_key = p_group_key
        );
    end if;
    if v_turn.message_id is distinct from p_message_id then
        return true;
    end if;
    v_next := (
        {{ next_of_group("p_group_key", "v_turn.position") }}
    );
    if v_next is null then
        return true;
    end if;
    perform from blocked b
    where b.channel_id = p_channel_id and b.group_key = p_group_key and b.position = v_next
    for update skip locked;
    return found;
end;
$$;

comment on function {{ schema }}._turn_seize(integer, text, bigint) is
'Lock the turn of a message''s group and, where the message has it, the one that is to have it next, if nobody else has them; true also where there is nothing to lock.';
