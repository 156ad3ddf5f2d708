create or replace function {{ schema }}._doorbell_ring(
    p_channel_id integer, p_kind text, p_name text, p_interval interval
) returns void
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
as $$
/*
 * NOTIFY takes a lock of the whole server's at commit, so that those who notify commit one after the other. Hence the
 * throttle: the instant of the last ring stands in a sequence, which everybody sees at once and which needs no row.
 * Two that look at the same moment may both ring; never does the throttle keep anybody waiting.
 *
 * A ring is heard when its transaction commits, and who is throttled relies on the ring of another. What that means
 * for a message that commits at c, put less than p_interval after a ring that was heard at r:
 *   c < r     it is there when the ring is heard.
 *   c > r     nobody is told any more. Whoever was woken polls on, at pauses that double from 5 ms: one of his polls
 *             falls between c and c + (c - r) + 5 ms, and c - r is at most p_interval and what the transaction still
 *             took after the put. His ordinary pause bounds it, too.
 *   no r      the one who was to ring is still open, or was rolled back (with a savepoint, too): the next message put
 *             after p_interval rings; if none comes, it is the ordinary poll that finds this one.
 * So the floor is polling, always, and p_interval should be short: what it costs is a commit that waits for others,
 * once an interval. A clock that was set back rings.
 */
declare
    v_sequence constant regclass := to_regclass('doorbell_' || p_channel_id);
    v_now constant bigint := extract(epoch from clock_now()) * 1000000;
    v_since bigint;
begin
    if current_setting('tidegate.doorbell', true) = 'off' then
        return;
    end if;
    if p_interval > '0' and v_sequence is not null then
        v_since := v_now - pg_sequence_last_value(v_sequence);
        if v_since >= 0 and v_since < extract(epoch from p_interval) * 1000000 then
            return;
        end if;
        perform setval(v_sequence, v_now);
    end if;
    perform pg_notify({{ schema_literal }}, p_kind || ' ' || p_name);
end;
$$;

comment on function {{ schema }}._doorbell_ring(integer, text, text, interval) is
'Wake whoever listens for a channel, when this transaction commits, unless somebody did within the interval: NOTIFY on the channel that is named like the schema, payload ''queue'' or ''topic'' and the name. Does nothing where tidegate.doorbell is off.';
