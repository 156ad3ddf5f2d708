{% from "macros/refuse.sql" import refuse_while_rows %}
{#- What counter_reconcile has read from the leases it reads from them again; additions to them would be lost. #}
{% set derived = "run_id is null and key ~ '^leased[.](channel|run|tenant)[.]'" -%}
{{ refuse_while_rows(["counter", "counter_delta"], {"counter": derived}) }}

drop type {{ schema }}.maintenance_job;
drop table {{ schema }}.maintenance_setting;
drop table {{ schema }}.maintenance_run;
drop table {{ schema }}.counter_fold;
drop table {{ schema }}.counter_delta;
drop table {{ schema }}.counter;
drop sequence {{ schema }}.counter_seq;
drop type {{ schema }}.counted;
