{% from "macros/message.sql" import message_names %}
{% from "macros/run.sql" import is_stopped %}
{#-
  The one path by which messages leave ready: shared by queue_claim, outbox_claim and, up to the tick, outbox_sweep and
  queue_work.

  newest_floor     what the last tick of the channel found.
  may_tick         whether this call may tick at all.
  tick_when_due    ticks when the last tick is too old and there may be something to do.
  claim_body       the body of queue_claim and outbox_claim.
-#}
{% macro newest_floor() -%}
select * into v_floor from floor where channel_id = v_channel.channel_id order by floor_id desc limit 1;
{%- endmacro %}

{#- A tick must look like the caller's whole transaction, or be asked for: what it moves is unseen until the commit. It
    does when nothing was written yet and the transaction has only just begun; its two timestamps are equal in the simple
    protocol only, where the extended one begins the transaction before it executes the statement. Never while a handler
    runs, whatever it asks for: messages that are being worked on are out of their place, and may go back to it. -#}
{% macro may_tick() -%}
current_setting('tidegate.handling', true) is distinct from 'on' and (
            current_setting('tidegate.tick', true) = 'on' or (
                pg_current_xact_id_if_assigned() is null
                and statement_timestamp() < transaction_timestamp() + interval '100 ms'
            )
        )
{%- endmacro %}

{#- A tick is due when the last one said, or 5000 positions after it. It is worth it when positions were drawn since,
    somebody held one or messages stood in ready then, or a deadline has passed, or the clock was set back.
    The tests without a query come first: the others cost as much as a claim of one. -#}
{% macro tick_when_due(may_tick) -%}
    if (
            v_now not between v_floor.ticked_at and v_floor.tick_at
            or (v_drawn > 5000 and v_now > v_floor.ticked_at + 10 * v_floor.took)
        )
        and ({{ may_tick }})
    then
        if v_now < v_floor.ticked_at or v_drawn <> 0 or not v_floor.is_quiet or v_floor.has_more
            or exists (
                select from scheduled s
                where s.channel_id = v_channel.channel_id
                    and s.due_at >= v_floor.scheduled_from - interval '1 minute' and s.due_at <= v_now
            )
            or exists (
                select from lease l
                where l.channel_id = v_channel.channel_id
                    and l.expires_at >= v_floor.lease_from - interval '1 minute' and l.expires_at <= v_now
            )
        then
            perform _tick(v_channel.channel_id);
            {{ newest_floor() }}
        end if;
    end if;
{%- endmacro %}

{% macro claim_body(kind, name) -%}
/*
 * Priority by priority from its hint up, under row locks that skip what others hold: two claims share nothing, and
 * neither waits. What was locked is then deleted and stands in the lease: others see it ready until the commit, and
 * leased after it. What belongs to a stopped run is refused on the way, so many at most that a claim stays short: the
 * next one goes on from there.
 */
declare
    v_now timestamptz := clock_now();
    v_channel channel;
    v_floor floor;
    v_drawn bigint;
    v_lease_id uuid;
    v_cap integer := p_limit;
    v_limit integer;
    v_in_flight bigint;
    v_priority smallint;
    v_message message;
    v_messages message[];
    v_ctids tid[];
    v_batch integer;
    v_bytes bigint := 0;
    v_is_plain boolean := true;
    v_has_run boolean := false;
    v_refused integer := 0;
    v_expires_at timestamptz;
begin
    -- The ordinary call passes one test: each expression is set up anew in every transaction.
    if (
        p_limit between 1 and 10000 and (p_lease is null or p_lease > '0')
        and (p_worker is null or octet_length(p_worker) <= 512)
        and current_setting('transaction_isolation') = 'read committed'
    ) is not true then
        if current_setting('transaction_isolation') <> 'read committed' then
            perform _require_read_committed('{{ kind if kind == "queue" else "outbox" }}_claim');
        elsif p_lease <= '0' then
            perform _bad_argument(
                'p_lease', p_lease::text, 'A lease lasts a positive time, for example interval ''1 minute''.'
            );
        end if;
        if octet_length(p_worker) > 512 then
            perform _bad_argument('p_worker', left(p_worker, 100), 'A name has at most 512 bytes.');
        end if;
        perform _bad_argument('p_limit', p_limit::text, 'Claim between 1 and 10000 messages at a time.');
    end if;

    select * into v_channel from channel where kind = '{{ kind }}' and name = {{ name }};
    if not found then
        perform _no_such_channel('{{ kind }}', {{ name }});
    end if;
    {{ newest_floor() }}
    v_drawn := coalesce(pg_sequence_last_value('position_seq'), 0) - v_floor.position;

    -- So does the ordinary moment: everything between these lines is out of it.
    if {{ "v_channel.is_routed or " if kind == "topic" }}v_channel.is_paused or p_lease_id is not null
        or p_lease > v_channel.max_runtime or v_channel.max_in_flight is not null or v_drawn not between 1 and 5000
        or v_now not between v_floor.ticked_at and v_floor.tick_at
    then
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
                'p_lease', p_lease::text,
                format('It may not be above the channel''s max_runtime, %s.', v_channel.max_runtime)
            );
        end if;
        if p_lease_id is not null then
            -- A repeat may overtake its first attempt: it waits for it here and then looks, in a new snapshot.
            perform pg_advisory_xact_lock(hashtextextended(p_lease_id::text, 'lease'::regclass::oid::bigint));
            return query select * from _lease_deliveries(p_lease_id, v_channel.channel_id);
            if found then
                return;
            elsif exists (select from lease l where l.lease_id = p_lease_id) then
                perform _bad_argument(
                    'p_lease_id', p_lease_id::text, 'That lease stands elsewhere: give each claim an id of its own.'
                );
            end if;
        end if;
        if v_channel.is_paused or (v_drawn = 0 and v_now < v_floor.idle_until) then
            return;
        end if;

        {{ tick_when_due(may_tick()) | indent }}

        if v_channel.max_in_flight is not null then
            -- Capped channels count under a lock of their own, which others never take.
            perform pg_advisory_xact_lock(_lock_key('channel'::regclass, v_channel.channel_id));
            select v_channel.max_in_flight - coalesce(sum(l.message_count), 0) into v_in_flight
            from lease l where l.channel_id = v_channel.channel_id;
            if v_in_flight <= 0 then
                return;
            end if;
            v_cap := least(v_cap, v_in_flight);
        end if;
    end if;

    if v_cap = 1 then
        -- The default, without the second statement and the arrays of a batch.
        loop
            foreach v_priority in array v_floor.priorities loop
                -- By key: a row that was changed since the snapshot is locked in its new version, found by its old one.
                delete from ready d
                where d.channel_id = v_channel.channel_id and d.priority = v_priority and d.position = (
                    select r.position from ready r
                    where r.channel_id = v_channel.channel_id and r.priority = v_priority
                        and r.position > v_floor.hints[v_priority + 1]
                    order by r.position
                    limit 1
                    for update skip locked
                )
                returning {{ message_names("d") }} into v_message;
                exit when found;
            end loop;
            if v_message.message_id is null or v_message.run_id is not null then
                if v_message.message_id is null or v_refused = 100 then
                    return;
                end if;
                if {{ is_stopped("v_message.run_id") }} then
                    perform _message_refuse(v_channel.channel_id, array[v_message]);
                    v_message := null;
                    v_refused := v_refused + 1;
                    continue;
                end if;
            end if;
            exit;
        end loop;
        insert into lease (
            lease_id, claimed_at, expires_at, channel_id, message_count, is_plain, worker, run_ids, messages
        )
        values (
            coalesce(p_lease_id, gen_random_uuid()), clock_now(), {{ expires_at() }}, v_channel.channel_id, 1,
            not v_channel.archive and v_message.body_bytes is null and v_message.requeued_from is null
{%- if kind == "queue" %} and v_message.group_key is null and v_message.job_key is null and v_message.barrier is null{% endif %},
            p_worker, case when v_message.run_id is not null then array[v_message.run_id] end, array[v_message]
        ) returning lease_id, expires_at into v_lease_id, v_expires_at;
        if v_message.body_bytes is null then
            return next row(
                v_lease_id, v_message.message_id,
                coalesce(
                    v_message.event_id, _event_id(v_channel.event_prefix, v_message.message_id, v_message.enqueued_at)
                ),
                v_message.topic, v_message.attempts + 1, coalesce(v_message.max_attempts, v_channel.max_attempts),
                v_message.payload, v_message.headers, v_message.priority, v_message.group_key, v_message.job_key,
                v_message.run_id, v_message.tenant, v_message.barrier, v_message.epoch, v_message.member,
                v_message.enqueued_at, v_expires_at
            )::delivery;
        else
            return query select * from _lease_deliveries(v_lease_id, v_channel.channel_id);
        end if;
        return;
    end if;

    loop
        v_limit := v_cap;
        foreach v_priority in array v_floor.priorities loop
            -- Messages are built where their rows are locked: the delete then returns nothing, and order is the index's.
            select
                v_ctids || array_agg(c.ctid),
                v_messages || array_agg(c.message),
                least(v_batch, min(c.max_batch)),
                v_bytes + coalesce(sum(c.body_bytes), 0),
                v_is_plain
                and count(c.body_bytes) + count(c.requeued_from)
{%- if kind == "queue" %} + count(c.group_key) + count(c.job_key) + count(c.barrier){% endif %} = 0,
                v_has_run or count(c.run_id) > 0
            into v_ctids, v_messages, v_batch, v_bytes, v_is_plain, v_has_run
            from (
                select
                    r.ctid, r.max_batch, r.body_bytes, r.requeued_from, r.run_id,
                    {{ "r.group_key, r.job_key, r.barrier, " if kind == "queue" }}row({{ message_names("r") }})::message as message
                from ready r
                where r.channel_id = v_channel.channel_id and r.priority = v_priority
                    and r.position > v_floor.hints[v_priority + 1]
                order by r.position
                limit v_limit
                for update skip locked
            ) c;
            v_limit := v_cap - coalesce(cardinality(v_messages), 0);
            exit when v_limit <= 0;
        end loop;
        if v_messages is null or v_has_run then
            if v_messages is null or v_refused = 10 then
                return;
            end if;
            if cardinality(_ready_refuse(v_channel.channel_id, v_ctids)) is distinct from cardinality(v_ctids) then
                -- Some were refused. Those that are left are already locked: taken again, with what comes behind them.
                v_ctids := null;
                v_messages := null;
                v_batch := null;
                v_bytes := 0;
                v_is_plain := true;
                v_has_run := false;
                v_refused := v_refused + 1;
                continue;
            end if;
        end if;
        exit;
    end loop;
    if v_batch < cardinality(v_messages) or v_bytes > 16777216 then
        v_limit := _batch_fit(v_messages);
        v_messages := v_messages[:v_limit];
        v_ctids := v_ctids[:v_limit];
    end if;
    delete from ready where ctid = any(v_ctids);

    insert into lease (
        lease_id, claimed_at, expires_at, channel_id, message_count, is_plain, worker, run_ids, messages
    ) values (
        coalesce(p_lease_id, gen_random_uuid()), clock_now(), {{ expires_at() }}, v_channel.channel_id,
        cardinality(v_messages),
        v_is_plain and not v_channel.archive, p_worker,
        case when v_has_run then array(select distinct m.run_id from unnest(v_messages) m where m.run_id is not null) end,
        v_messages
    ) returning lease_id, expires_at into v_lease_id, v_expires_at;

    if v_bytes > 0 then
        return query select * from _lease_deliveries(v_lease_id, v_channel.channel_id);
    else
        return query
        select
            v_lease_id, m.message_id,
            coalesce(m.event_id, _event_id(v_channel.event_prefix, m.message_id, m.enqueued_at)), m.topic,
            m.attempts + 1, coalesce(m.max_attempts, v_channel.max_attempts), m.payload, m.headers, m.priority,
            m.group_key, m.job_key, m.run_id, m.tenant, m.barrier, m.epoch, m.member, m.enqueued_at, v_expires_at
        from unnest(v_messages) m;
    end if;
end;
{%- endmacro %}

{#- A lease begins when it is handed out, after whatever lock was waited for, and ends later than that. -#}
{% macro expires_at() -%}
greatest(clock_now() + coalesce(p_lease, v_channel.lease), clock_now() + interval '1 microsecond')
{%- endmacro %}

{#- For outbox_sweep and queue_work: lock up to v_limit messages above their hints, in order, into v_ctids; null when
    there are none. Those of stopped runs are taken out: fewer than there were does not say that there are no more. `cap` is
    what v_limit was before; `where` narrows the choice. Of a topic also whether some may have a priority
    above 0, and whether all are plain: no group, and no dead letter that waits for them. -#}
{% macro lock_candidates(cap, kind, where="true") -%}
    v_ctids := null;
    v_has_run := false;
{%- if kind == "topic" %}
    v_has_priorities := false;
    v_is_plain := true;
{%- endif %}
    foreach v_priority in array v_floor.priorities loop
        select
{%- if kind == "topic" %}
            v_has_priorities or (v_priority > 0 and count(*) > 0),
            v_is_plain and count(r.group_key) + count(r.requeued_from) = 0,
{%- endif %}
            v_ctids || array_agg(r.ctid), v_has_run or count(r.run_id) > 0
        into {{ "v_has_priorities, v_is_plain, " if kind == "topic" }}v_ctids, v_has_run
        from (
            select n.ctid, n.run_id{{ ", n.group_key, n.requeued_from" if kind == "topic" }} from ready n
            where n.channel_id = v_channel.channel_id and n.priority = v_priority
                and n.position > v_floor.hints[v_priority + 1]{{ "" if where == "true" else " and " ~ where }}
            order by n.position
            limit v_limit
            for update skip locked
        ) r;
        v_limit := {{ cap }} - coalesce(cardinality(v_ctids), 0);
        exit when v_limit <= 0;
    end loop;
    if v_has_run then
        v_ctids := _ready_refuse(v_channel.channel_id, v_ctids);
    end if;
{%- endmacro %}
