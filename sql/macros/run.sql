{#-
  Whether a run refuses its messages: asked of what is sent, delivered and given back, where a message has a run at all.
  Only of a stopped one: what a run that completed has left behind, such as the event that says so, is delivered, and a
  run in error may still complete. Ask in a statement of its own, after the locks: it must see every cancel that has
  committed by then.
-#}
{% macro is_stopped(run_id) -%}
exists (select from run s where s.run_id = {{ run_id }} and s.state = 'stopped')
{%- endmacro %}

{#
    When a message dies whose run is open and was opened to fail then: now, for run_sweep. Read without a lock: the run
    is looked at again, and locked, when it is let fail. A message without a run pays the test of a null.
#}
{% macro fails_run_at(run_id, now, condition="") -%}
case
                when {{ run_id }} is not null{{ condition }}
                    and exists (
                        select from run r where r.run_id = {{ run_id }} and r.fail_on_dead_letter and r.state = 'open'
                    )
                    then {{ now }}
            end
{%- endmacro %}
