-- The only file that grants or revokes. It runs last, every time.

revoke all on all functions in schema {{ schema }} from public;
revoke all on all procedures in schema {{ schema }} from public;
{%- if roles %}
{#- Who may call what. An operator may do what producers, workers and monitors may. #}
{%- set producer = [
    "outbox_put", "outbox_put_many", "outbox_put_specs", "queue_send", "queue_send_many", "queue_send_specs",
    "barrier_open", "barrier_send", "barrier_add", "barrier_seal", "counter_add",
] %}
{%- set worker = [
    "outbox_sweep", "outbox_claim", "outbox_settle", "outbox_release", "queue_claim", "queue_ack", "queue_nack",
    "queue_settle", "queue_release", "queue_extend",
    "barrier_open", "barrier_send", "barrier_add", "barrier_seal", "barrier_arrive", "barrier_fail", "barrier_results",
    "guard_claim", "guard_renew", "guard_finish", "guard_release", "inbox_accept", "cleanup_sweep",
    "counter_add", "counter_sync", "counter_reconcile",
    "recovery_sweep", "leader_acquire", "leader_renew", "leader_resign", "run_open", "run_finish", "run_sweep",
    "maintenance_due", "maintenance_start", "maintenance_finish", "maintenance_tick", "metrics_snapshot", "metrics",
] %}
{%- set operator = [
    "topic_create", "topic_configure", "topic_pause", "topic_resume", "topic_drop",
    "outbox_route", "outbox_unroute", "queue_create", "queue_configure", "queue_pause", "queue_resume", "queue_drop",
    "queue_drain", "queue_purge", "queue_peek", "queue_cancel",
    "queue_work", "run_cancel", "barrier_abort", "barrier_resolve", "maintenance_configure",
    "dead_letter_list", "dead_letter_peek", "dead_letter_payload", "dead_letter_history", "dead_letter_stats",
    "dead_letter_put", "dead_letter_requeue", "dead_letter_requeue_matching", "dead_letter_discard",
    "dead_letter_discard_matching",
] %}
{%- set monitor = ["metrics", "doctor", "dead_letter_count", "counter_peek", "run_status", "run_list", "barrier_status"] %}
{%- set views = ["backlog", "in_flight", "policy", "dead_letter_summary", "outcomes", "counters", "upkeep", "barrier_progress"] %}
{%- set everybody = [role_producer, role_worker, role_operator, role_monitor] %}

-- Roles belong to the whole server: another database may have made them already, and a rollback leaves them.
do $$
begin
{%- for name in ["producer", "worker", "operator", "monitor"] %}
    if not exists (select from pg_catalog.pg_roles where rolname = {{ schema_literal }} || '_{{ name }}') then
        create role {{ everybody[loop.index0] }} nologin;
    end if;
{%- endfor %}
end;
$$;

grant usage on schema {{ schema }} to {{ everybody | join(", ") }};
grant execute on function {{ schema }}.schema_version to {{ everybody | join(", ") }};
{%- for name in producer %}
grant execute on function {{ schema }}.{{ name }} to {{ role_producer }}, {{ role_operator }};
{%- endfor %}
{%- for name in worker %}
grant execute on function {{ schema }}.{{ name }} to {{ role_worker }}, {{ role_operator }};
{%- endfor %}
{%- for name in operator %}
grant execute on function {{ schema }}.{{ name }} to {{ role_operator }};
{%- endfor %}
{%- for name in monitor %}
grant execute on function {{ schema }}.{{ name }} to {{ role_monitor }}, {{ role_operator }};
{%- endfor %}
{%- for name in views %}
grant select on table {{ schema }}.{{ name }} to {{ role_monitor }}, {{ role_operator }};
{%- endfor %}
{#- Workers see how long their leases are, and which channels there are. #}
grant select on table {{ schema }}.policy to {{ role_worker }};
{#- Payloads are the operator's to see, as those of dead letters are. #}
grant select on table {{ schema }}.archived to {{ role_operator }};
{%- endif %}
