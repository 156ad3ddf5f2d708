{% from "macros/dead_letter.sql" import dead_letter_filters, dead_letter_filters_check %}
create or replace function {{ schema }}.dead_letter_requeue_matching(
    {{ dead_letter_filters(with_state=false) }},
    p_limit integer default 1000,
    p_per_second double precision default null,
    p_dry_run boolean default false,
    p_reset_attempts boolean default true,
    p_note text default null,
    out requeued integer,
    out key_in_use integer,
    out no_channel integer,
    out busy integer,
    out last_due_at timestamptz
)
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
/*
 * Oldest death first, in steps, until p_limit have gone back or there are no more: what cannot go back is passed over
 * and counted, so it never stands in the way of what can. A repeat takes the next ones: those that went back are no
 * longer dead, and if they die again they are the youngest.
 *
 * A dry run judges in the same way and writes nothing. For it a key counts as in use once it has been taken.
 */
declare
    v_now constant timestamptz := clock_now();
    v_every interval;
    v_from_at timestamptz := coalesce(p_since, '-infinity');
    v_from_id bigint := 0;
    v_to_at constant timestamptz := coalesce(p_until, 'infinity');
    v_limit integer;
    v_ids bigint[];
    v_free bigint[];
    v_taken bigint[] := '{}';
    v_step record;
begin
    {{ dead_letter_filters_check(with_state=false) }}
    if p_limit is null or p_limit not between 1 and 100000 then
        perform _bad_argument('p_limit', p_limit::text, 'Requeue between 1 and 100000 dead letters at a time.');
    end if;
    if p_per_second is not null and (p_per_second between 0.001 and 1000000) is not true then
        perform _bad_argument('p_per_second', p_per_second::text, 'Give 0.001 to 1000000, or null: all at once.');
    end if;

    v_every := interval '1 second' / p_per_second;
    requeued := 0;
    key_in_use := 0;
    no_channel := 0;
    busy := 0;
    loop
        v_limit := least(p_limit - requeued, 1000);
        v_ids := _dead_letter_oldest(
            p_channel, p_reason, p_tenant, p_run_id, 'dead', v_from_at, v_from_id, v_to_at, 0, v_limit
        );
        exit when v_ids = '{}';

        with seen as (
            select distinct d.channel_id, d.job_key from dead_letter d
            where d.dead_letter_id = any(v_taken) and d.job_key is not null
        ), judged as (
            select
                i.id, i.ordinality,
                case
                    when c.channel_id is null then 'no_channel'
                    when d.job_key is not null and (
                        exists (select from job_key k where k.channel_id = d.channel_id and k.key = d.job_key)
                        or exists (select from seen s where s.channel_id = d.channel_id and s.job_key = d.job_key)
                        or row_number() over (partition by d.channel_id, d.job_key order by i.ordinality) > 1
                    ) then 'key_in_use'
                    else 'free'
                end as outcome
            from unnest(v_ids) with ordinality i (id, ordinality)
            cross join lateral (select * from dead_letter n where n.dead_letter_id = i.id limit 1) d
            left join channel c on c.channel_id = d.channel_id
        )
        select
            array_agg(j.id order by j.ordinality) filter (where j.outcome = 'free'),
            key_in_use + count(*) filter (where j.outcome = 'key_in_use'),
            no_channel + count(*) filter (where j.outcome = 'no_channel')
        into v_free, key_in_use, no_channel
        from judged j;

        if p_dry_run then
            v_taken := v_taken || v_free;
            requeued := coalesce(cardinality(v_taken), 0);
        elsif v_free is not null then
            select
                count(*) filter (where r.outcome = 'requeued') as requeued,
                count(*) filter (where r.outcome = 'key_in_use') as key_in_use,
                count(*) filter (where r.outcome = 'no_channel') as no_channel,
                count(*) filter (where r.outcome not in ('requeued', 'key_in_use', 'no_channel')) as busy
            into v_step
            from _dead_letter_requeue(
                v_free, coalesce(p_reset_attempts, true), p_note, false, v_now + v_every * requeued, v_every
            ) r;
            requeued := requeued + v_step.requeued;
            key_in_use := key_in_use + v_step.key_in_use;
            no_channel := no_channel + v_step.no_channel;
            busy := busy + v_step.busy;
        end if;

        exit when requeued = p_limit or cardinality(v_ids) < v_limit;
        select d.dead_at, d.dead_letter_id into v_from_at, v_from_id
        from dead_letter d
        where d.dead_letter_id = v_ids[v_limit];
    end loop;
    if requeued > 0 then
        last_due_at := coalesce(v_now + v_every * (requeued - 1), v_now);
    end if;
end;
$$;

comment on function {{ schema }}.dead_letter_requeue_matching(
    text, text, text, text, timestamptz, timestamptz, integer, double precision, boolean, boolean, text
) is
'Requeue the dead letters that match the filters of dead_letter_list, oldest death first, up to p_limit; no filter means all. Call again while requeued equals p_limit: each call takes the next ones. p_per_second spreads them: they become due at that pace from now, the last at last_due_at. p_dry_run changes nothing and says how many would go. Passed over, and left dead: key_in_use (a live message has the job key), no_channel (it was dropped), busy (somebody else is at it). Errors: TG010 unknown reason, a limit or pace out of range.';
