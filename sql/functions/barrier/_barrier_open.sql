{% from "macros/argument.sql" import lengths_check %}
{% from "macros/barrier.sql" import options, types %}
{% from "macros/run.sql" import is_stopped %}
create or replace function {{ schema }}._barrier_open(
    p_name text,
    p_members integer,
    {{ options(with_defaults=false) }},
    out epoch bigint,
    out outcome text,
    out is_repeat boolean
)
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
as $$
#variable_conflict use_column
/*
 * A former epoch is left where it is: whoever arrives there finds the barrier's epoch changed, and cleanup removes it.
 * So an opening waits only for another opening of that name, or for what closes the barrier at this moment.
 */
declare
    v_now timestamptz;
    v_former barrier;
    v_epoch bigint;
    v_queue text;
    v_needs_tenant boolean;
    v_answer text := 'opened';
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('barrier_open');
    end if;
    if p_name is null or octet_length(p_name) not between 1 and 512 then
        perform _bad_argument('p_name', left(p_name, 100), 'A name has 1 to 512 bytes.');
    elsif p_members is null or p_members not between 0 and 1000000 then
        perform _bad_argument('p_members', p_members::text, 'Open with 0 to 1000000 members; barrier_add adds more.');
    elsif p_policy is null or p_policy not in ('abort', 'collect', 'quorum') then
        perform _bad_argument('p_policy', p_policy, 'The policies are abort, collect and quorum.');
    elsif (p_policy = 'quorum') <> (p_quorum is not null) then
        perform _bad_argument('p_quorum', p_quorum::text, 'It goes with the policy quorum, and only with that.');
    elsif p_quorum < 1 or (p_sealed and p_quorum > p_members) then
        perform _bad_argument('p_quorum', p_quorum::text, 'At least 1 and at most as many as there are members.');
    elsif p_sealed is null then
        perform _bad_argument('p_sealed', null, 'True, or false when barrier_add is to follow.');
    elsif p_callback_payload is null or p_failure_payload is null then
        perform _bad_argument(
            case when p_callback_payload is null then 'p_callback_payload' else 'p_failure_payload' end, null,
            'Give a JSON value; for an empty one, ''null''::jsonb.'
        );
    elsif jsonb_typeof(p_callback_headers) <> 'object' or _json_size(p_callback_headers) > 8192 then
        perform _bad_argument(
            'p_callback_headers', left(p_callback_headers::text, 200), 'Headers are a JSON object of at most 8 kB.'
        );
    elsif p_callback_priority is null or p_callback_priority not between 0 and 9 then
        perform _bad_argument(
            'p_callback_priority', p_callback_priority::text, 'A priority is a number from 0 (first) to 9 (last).'
        );
    elsif p_inline_limit is null or p_inline_limit not between 0 and 67108864 then
        perform _bad_argument(
            'p_inline_limit', p_inline_limit::text, 'Bytes of results that the callback may carry: 0 to 67108864.'
        );
    elsif _is_duration(p_expires_in) is not true then
        perform _bad_argument('p_expires_in', p_expires_in::text, 'Give a positive interval, at most 100 years.');
    elsif _is_duration(p_stall_after) is not true then
        perform _bad_argument('p_stall_after', p_stall_after::text, 'Give a positive interval, at most 100 years.');
    end if;
{{- lengths_check(["p_key", "p_run_id", "p_tenant"]) }}
    foreach v_queue in array array[p_callback_queue, p_failure_queue, p_expire_queue] loop
        if v_queue is not null then
            select c.tenant_required into v_needs_tenant from channel c where c.kind = 'queue' and c.name = v_queue;
            if not found then
                perform _no_such_channel('queue', v_queue);
            elsif v_needs_tenant and p_tenant is null then
                perform _bad_argument('p_tenant', null, format('Queue %s requires a tenant.', v_queue));
            end if;
        end if;
    end loop;

    is_repeat := false;
    loop
        select * into v_former from barrier b where b.name = p_name for update;
        if v_former.key = p_key then
            epoch := v_former.epoch;
            outcome := v_former.answer;
            is_repeat := true;
            return;
        end if;
        if p_run_id is not null and {{ is_stopped("p_run_id") }} then
            outcome := 'cancelled';
            return;
        end if;
        -- Drawn under the lock, so it is above the former one; unless the sequence was set back, as in a logical copy:
        -- then it goes on above all that are here.
        v_epoch := nextval('barrier_epoch_seq');
        if v_former.epoch >= v_epoch or exists (select from barrier_epoch e where e.epoch = v_epoch) then
            perform setval('barrier_epoch_seq', (select max(e.epoch) from barrier_epoch e));
            v_epoch := nextval('barrier_epoch_seq');
        end if;
        v_now := clock_now();
        insert into barrier as b (
            name, epoch, is_sealed, member_count, policy, quorum, callback_queue, callback_payload, callback_headers,
            callback_priority, failure_queue, failure_payload, expire_queue, inline_limit, run_id, tenant, key, answer,
            opened_at, expires_at, stall_after, look_at
        ) values (
            p_name, v_epoch, p_sealed, p_members, p_policy, p_quorum, p_callback_queue, p_callback_payload,
            p_callback_headers, p_callback_priority, p_failure_queue, p_failure_payload, p_expire_queue, p_inline_limit,
            p_run_id, p_tenant, p_key, 'opened', v_now, v_now + p_expires_in, p_stall_after,
            least(v_now + p_expires_in, v_now + p_stall_after)
        )
        on conflict (name) do update
        set epoch = excluded.epoch, is_sealed = excluded.is_sealed, member_count = excluded.member_count,
            policy = excluded.policy, quorum = excluded.quorum, callback_queue = excluded.callback_queue,
            callback_payload = excluded.callback_payload, callback_headers = excluded.callback_headers,
            callback_priority = excluded.callback_priority, failure_queue = excluded.failure_queue,
            failure_payload = excluded.failure_payload, expire_queue = excluded.expire_queue,
            inline_limit = excluded.inline_limit, run_id = excluded.run_id, tenant = excluded.tenant,
            key = excluded.key, answer = excluded.answer, opened_at = excluded.opened_at,
            expires_at = excluded.expires_at, stall_after = excluded.stall_after, look_at = excluded.look_at,
            state = 'open', outcome = null, reason = null, closed_at = null, kept_at = null, resent_at = null,
            look_count = 0
        where b.epoch = v_former.epoch;
        exit when found; -- else somebody opened it for the first time a moment ago
    end loop;

    insert into barrier_epoch (epoch, name, open_slots, room)
    values (v_epoch, p_name, 0, repeat(' ', least(750, p_members / 8)));
    if p_members > 0 then
        update barrier_epoch e set open_slots = _barrier_grow(v_epoch, 1, p_members) where e.epoch = v_epoch;
    end if;
    if p_members = 0 and p_sealed then
        v_answer := _barrier_close(p_name, v_epoch, 'fired', null);
        update barrier b set answer = v_answer where b.name = p_name;
    end if;
    epoch := v_epoch;
    outcome := v_answer;
end;
$$;

comment on function {{ schema }}._barrier_open(
    text, integer, {{ types() }}
) is
'Open a barrier under an epoch of its own. is_repeat: the key was that of the latest opening, of which this is the answer; nothing was changed. outcome cancelled, without an epoch: its run was stopped, and nothing was opened. Errors: TG010 bad argument, TG020 no such queue, TG030 not READ COMMITTED.';
