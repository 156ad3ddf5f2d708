{# Closed sets of labels: a scrape tells every value of them, from the beginning. #}
{% set outcomes -%}
'acked', 'dispatched', 'retried', 'released', 'expired', 'dead_lettered', 'requeued', 'discarded',
'cancelled', 'purged'
{%- endset %}
{% set reasons -%}
'exhausted', 'not_retryable', 'expired', 'malformed', 'unknown_handler', 'cancelled', 'purged'
{%- endset %}
{% set routines -%}
'_tick', 'maintenance_tick', 'outbox_sweep', 'recovery_sweep', 'run_sweep', 'cleanup_sweep',
'counter_reconcile', '_lease_expire', '_scheduled_promote', '_stranded_replace', '_barrier_close',
'_tide_forget', '_tide_forget_deadlines'
{%- endset %}
