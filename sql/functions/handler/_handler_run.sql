{#- Every handler with one message. -#}
{% macro call_each() -%}
foreach v_call in array p_calls loop
                execute v_call using v_message;
                if pg_catalog.current_setting('search_path') operator(pg_catalog.<>) v_path then
                    raise exception using
                        errcode = 'TG040',
                        message = 'the handler set search_path for good: use set local, or its function head';
                end if;
            end loop;
{%- endmacro -%}
create or replace function {{ schema }}._handler_run(
    p_calls text[],
    p_messages {{ schema }}.message[],
    p_may_check boolean,
    out reached integer,
    out failed integer[],
    out errors text[],
    out finals text[]
)
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
set plan_cache_mode = auto
set enable_seqscan = on
set enable_bitmapscan = on
set jit = off
as $$
/*
 * First all messages in one subtransaction; if any raises, each in one of its own, and only those that raise have
 * failed.
 *
 * What sweeps pin for their own plans is not forced on handlers. They are marked, so that a sweep within a sweep is
 * refused: locks of its own transaction would not stop it. Nor does a claim of theirs tick, to which what is worked on
 * here would seem gone.
 *
 * A plain SET in a handler outlives it. That of search_path would decide what the caller's names mean, here and for
 * the rest of his session, and only a rollback undoes it: so it fails the message.
 *
 * Deferred constraints are checked where they can still be told apart, but only when the caller is the first to write
 * in its transaction (p_may_check): it would else fire the caller's own deferred triggers, before PostgreSQL 18 with
 * our rights. Unchecked, they fail the transaction at its commit.
 *
 * Time: each pass stops calling handlers after half of what is left of statement_timeout, and leaves the rest where
 * it stands, so slow handlers still make progress. A handler that is cancelled by the timeout has therefore had at
 * least that long for itself: it is charged, and ends the pass. So does any other cancel, which cannot be told from
 * one that a handler passes on from elsewhere, and would otherwise stop the topic or queue for ever.
 */
declare
    v_path constant text := current_setting('search_path');
    v_tick constant text := coalesce(current_setting('tidegate.tick', true), '');
    v_call text;
    v_message message;
    v_ordinal integer := 0;
    v_is_isolated boolean := false;
    v_end timestamptz := 'infinity';
    v_stop timestamptz := 'infinity';
begin
    reached := cardinality(p_messages);
    failed := '{}';
    errors := '{}';
    finals := '{}';
    if current_setting('statement_timeout') <> '0' then
        v_end := statement_timestamp() + current_setting('statement_timeout')::interval;
        v_stop := clock_timestamp() + (v_end - clock_timestamp()) / 2;
    end if;
    perform set_config('tidegate.handling', 'on', true), set_config('tidegate.tick', 'off', true);

    begin
        foreach v_message in array p_messages loop
            if clock_timestamp() > v_stop then
                reached := v_ordinal;
                exit;
            end if;
            v_ordinal := v_ordinal + 1;
            {{ call_each() }}
        end loop;
        if p_may_check then
            set constraints all immediate; -- what handlers deferred is checked while it can still be undone
        end if;
    exception
        when query_canceled then
            failed := array[v_ordinal];
            errors := array[sqlerrm];
            finals := array[null::text];
            reached := 0; -- what the others did is undone, uncharged, and done again by a later call
        when others or assert_failure then
            v_is_isolated := true;
    end;

    if v_is_isolated then
        if v_end <> 'infinity' then
            v_stop := clock_timestamp() + (v_end - clock_timestamp()) / 2;
        end if;
        v_ordinal := 0;
        reached := cardinality(p_messages);
        foreach v_message in array p_messages loop
            if clock_timestamp() > v_stop and v_ordinal > 0 then
                reached := v_ordinal;
                exit;
            end if;
            v_ordinal := v_ordinal + 1;
            begin
                {{ call_each() | indent }}
                if p_may_check then
                    set constraints all immediate;
                end if;
            exception
                when query_canceled then
                    failed := failed || v_ordinal;
                    errors := errors || sqlerrm;
                    finals := finals || null::text;
                    reached := v_ordinal;
                    exit;
                when others or assert_failure then
                    failed := failed || v_ordinal;
                    errors := errors || sqlerrm;
                    finals := finals || case when sqlstate = 'TG042' then 'not_retryable' end;
            end;
        end loop;
    end if;
    perform set_config('tidegate.handling', 'off', true), set_config('tidegate.tick', v_tick, true);
end;
$$;

comment on function {{ schema }}._handler_run(text[], {{ schema }}.message[], boolean) is
'Call handlers with each message: all or, when one raises, each by itself. reached: how many were tried, from the first; failed: the ordinals of those that raised, beside their errors and the reason of a failure that is final (TG042). What is neither reached nor failed was not touched.';
