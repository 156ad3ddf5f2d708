{% from "macros/argument.sql" import lengths_check %}
create or replace function {{ schema }}.run_open(
    p_run_id text,
    p_parent text default null,
    p_tenant text default null,
    p_fail_on_dead_letter boolean default false
) returns text
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
/*
 * The parent's row is shared to the commit: whoever ends the parent waits for it, and then sees this child. One that
 * has failed or was stopped already takes the child along.
 */
declare
    v_run run;
    v_parent run;
    v_state text := 'open';
begin
    if p_run_id is null or octet_length(p_run_id) not between 1 and 512 then
        perform _bad_argument('p_run_id', left(p_run_id, 100), 'A run is named by 1 to 512 bytes.');
    elsif p_parent = p_run_id then
        perform _bad_argument('p_parent', p_parent, 'A run is not its own parent.');
    elsif p_fail_on_dead_letter is null then
        perform _bad_argument('p_fail_on_dead_letter', null, 'True when the run is to fail as soon as a message dies.');
    end if;
{{- lengths_check(["p_tenant"]) }}
    if p_parent is not null then
        select * into v_parent from run r where r.run_id = p_parent for share;
        if not found then
            raise exception using
                errcode = 'TG092',
                message = format('there is no run %L to be the parent of %L', p_parent, p_run_id),
                hint = 'Open the parent first, with run_open.';
        end if;
        if v_parent.state in ('error', 'stopped') then
            v_state := v_parent.state;
        end if;
    end if;

    insert into run (run_id, parent_id, state, reason, tenant, fail_on_dead_letter, opened_at, finished_at)
    values (
        p_run_id, p_parent, v_state,
        case v_state when 'error' then 'failed with ' || p_parent when 'stopped' then 'stopped with ' || p_parent end,
        p_tenant, p_fail_on_dead_letter, clock_now(), case when v_state <> 'open' then clock_now() end
    )
    on conflict do nothing;
    if found then
        return v_state;
    end if;
    select * into v_run from run r where r.run_id = p_run_id;
    if not found then
        perform _require_read_committed('run_open'); -- it was opened by somebody this snapshot does not show
    elsif v_run.state = 'open' and v_run.parent_id is distinct from p_parent then
        perform _bad_argument(
            'p_parent', p_parent,
            format('Run %L is open already, %s.', p_run_id,
                coalesce(format('as a child of %L', v_run.parent_id), 'without a parent'))
        );
    elsif v_run.state = 'open' and v_run.fail_on_dead_letter <> p_fail_on_dead_letter then
        perform _bad_argument(
            'p_fail_on_dead_letter', p_fail_on_dead_letter::text,
            format('Run %L is open already, and the other way.', p_run_id)
        );
    end if;
    return v_run.state;
end;
$$;

comment on function {{ schema }}.run_open(text, text, text, boolean) is
'Open a run, perhaps as a child of another, with which it fails and stops. p_fail_on_dead_letter: it fails as soon as one of its messages dies, which run_sweep sees to; without it, dead letters are people''s business. Answers with its state: open, also to a repeat; or completed, error or stopped when it has ended, was cancelled before it was opened, or its parent has failed or was stopped: begin nothing then. Errors: TG010 bad argument, TG092 no such parent.';
