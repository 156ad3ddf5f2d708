{% from "macros/message.sql" import message_names %}
{#-
  The one path by which messages leave ready: shared by queue_claim, outbox_claim and the sweep.

  channel_lookup  finds the channel, its newest floor and the priorities in use in one statement, and ticks when the
                  last tick is too old and there may be something to do (tick_when_due).
  candidates      locks up to v_limit messages above their hints, in claim order, into v_ctids.
-#}
{% macro claim_locals() -%}
    v_now timestamptz := clock_now();
    v_channel record;
    v_since interval;
    v_hints bigint[];
    v_priorities smallint[];
    v_limit integer := p_limit;
    v_ctids tid[];
    v_max_batch integer;
    v_bytes bigint;
{%- endmacro %}

{% macro channel_lookup(kind, name) -%}
    select
        c.channel_id, c.is_paused, c.is_routed, c.event_prefix, c.lease, c.max_attempts, c.max_in_flight, c.max_runtime,
        f.ticked_at, f.took, f.position as tide_position, f.is_quiet, f.has_more, f.hints, f.scheduled_from, f.lease_from,
        coalesce(pg_sequence_last_value('position_seq'), 0) as position,
        array(
            select p.priority from channel_priority p where p.channel_id = c.channel_id order by p.declared_id
        ) as priorities
    into v_channel
    from channel c
    cross join lateral (
        select * from floor n where n.channel_id = c.channel_id order by n.floor_id desc limit 1
    ) f
    where c.kind = '{{ kind }}' and c.name = {{ name }};
    if not found then
        perform _no_such_channel('{{ kind }}', {{ name }});
    end if;
{%- endmacro %}

{#- A tick is due 250 ms or 5000 positions after the last one, but never sooner than ten times what that one took.
    It is worth it when positions were drawn since, somebody held one or messages stood in ready then, or a deadline
    has passed. It must be the caller's whole transaction, or be asked for: what a tick moves is unseen until commit. -#}
{% macro tick_when_due() -%}
    v_hints := v_channel.hints;
    v_priorities := case
        when v_channel.priorities = '{}' then '{0}'
        else array(select distinct p from unnest(v_channel.priorities || 0::smallint) p order by p)
    end;
    v_since := v_now - v_channel.ticked_at;
    if (
            v_channel.has_more or v_since > interval '250 ms' or v_since < '0' or v_channel.position - v_channel.tide_position > 5000
        )
        and not v_since between '0' and 10 * v_channel.took
        and (
            transaction_timestamp() = statement_timestamp()
            or current_setting('tidegate.tick', true) = 'on'
        )
        and (
            v_channel.position <> v_channel.tide_position
            or not v_channel.is_quiet
            or v_channel.has_more
            or exists (
                select from scheduled s
                where s.channel_id = v_channel.channel_id
                    and s.due_at >= v_channel.scheduled_from - interval '1 minute' and s.due_at <= v_now
            )
            or exists (
                select from lease l
                where l.channel_id = v_channel.channel_id
                    and l.expires_at >= v_channel.lease_from - interval '1 minute' and l.expires_at <= v_now
            )
        )
    then
        v_hints := coalesce(_tick(v_channel.channel_id), v_hints);
    end if;
{%- endmacro %}

{% macro candidates() -%}
    -- Probes run one priority after the other and lock lazily: the outer limit stops them.
    select array_agg(c.ctid), min(c.max_batch), sum(c.body_bytes)
    into v_ctids, v_max_batch, v_bytes
    from (
        select r.ctid, r.max_batch, r.body_bytes
        from unnest(v_priorities) as p (priority)
        cross join lateral (
            select n.ctid, n.max_batch, n.body_bytes
            from ready n
            where n.channel_id = v_channel.channel_id and n.priority = p.priority
                and n.position > v_hints[p.priority + 1]
            order by n.position
            for update skip locked
        ) r
        limit v_limit
    ) c;
    if v_max_batch < cardinality(v_ctids) or v_bytes > 16777216 then
        v_ctids := _candidates_trim(v_ctids);
    end if;
{%- endmacro %}

{% macro claim_body(kind, name) -%}
declare
    {{ claim_locals() }}
    v_lease_id uuid := p_lease_id;
    v_in_flight bigint;
begin
    if p_limit is null or p_limit not between 1 and 10000 then
        perform _bad_argument('p_limit', p_limit::text, 'Claim between 1 and 10000 messages at a time.');
    end if;
    if p_lease <= '0' then
        perform _bad_argument('p_lease', p_lease::text, 'A lease lasts a positive time, for example interval ''1 minute''.');
    end if;
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('{{ kind if kind == "queue" else "outbox" }}_claim');
    end if;

    {{ channel_lookup(kind, name) }}
{%- if kind == "topic" %}
    if v_channel.is_routed then
        raise exception using
            errcode = 'TG022',
            message = format('topic %L is routed: its events go to its routes', {{ name }}),
            hint = 'Sweep it with outbox_sweep, or take its routes away with outbox_unroute before relaying it.';
    end if;
{%- endif %}
    if p_lease > v_channel.max_runtime then
        perform _bad_argument(
            'p_lease', p_lease::text, format('It may not be above the channel''s max_runtime, %s.', v_channel.max_runtime)
        );
    end if;

    if v_lease_id is null then
        v_lease_id := gen_random_uuid();
    else
        -- A repeat may overtake its first attempt: it waits for it here and then looks, in a new snapshot.
        perform pg_advisory_xact_lock(hashtextextended(v_lease_id::text, 'lease'::regclass::oid::bigint));
        return query select * from _lease_deliveries(v_lease_id);
        if found then
            return;
        end if;
    end if;
    if v_channel.is_paused then
        return;
    end if;

    {{ tick_when_due() }}

    if v_channel.max_in_flight is not null then
        -- Capped channels count under a lock of their own, which others never take.
        perform pg_advisory_xact_lock(_lock_key('channel'::regclass, v_channel.channel_id));
        select v_channel.max_in_flight - coalesce(sum(l.message_count), 0) into v_in_flight
        from lease l where l.channel_id = v_channel.channel_id;
        if v_in_flight <= 0 then
            return;
        end if;
        v_limit := least(v_limit, v_in_flight);
    end if;

    {{ candidates() }}
    if v_ctids is null then
        return;
    end if;

    return query
    with taken as (
        delete from ready where ctid = any(v_ctids) returning *
    ), leased as (
        insert into lease (lease_id, claimed_at, expires_at, channel_id, message_count, is_plain, worker, messages)
        select
            v_lease_id, v_now,
            greatest(v_now + coalesce(p_lease, v_channel.lease), clock_now() + interval '1 microsecond'),
            v_channel.channel_id, count(*),
            count(t.body_id) + count(t.requeued_from) = 0,
            p_worker,
            array_agg(
                row({{ message_names("t") }})::message order by t.priority, t.position
            )
        from taken t
        returning lease.expires_at
    )
    select
        v_lease_id, t.message_id, coalesce(t.event_id, _event_id(v_channel.event_prefix, t.message_id)),
        (select o.name::text from channel o where o.channel_id = t.topic_id),
        t.attempts + 1, coalesce(t.max_attempts, v_channel.max_attempts),
        coalesce(t.payload, (select b.payload from body b where b.body_id = t.body_id)), t.headers, t.priority,
        t.group_key, t.job_key, t.run_id, t.tenant, t.enqueued_at, l.expires_at
    from taken t
    cross join leased l
    order by t.priority, t.position;
end;
{%- endmacro %}
