{#-
  Whether a run refuses its messages: asked of what is sent, delivered and given back, where a message has a run at all.
  Only of a stopped one: what a run that completed has left behind, such as the event that says so, is delivered, and a
  run in error may still complete. Ask in a statement of its own, after the locks: it must see every cancel that has
  committed by then.
-#}
{% macro is_stopped(run_id) -%}
exists (select from run s where s.run_id = {{ run_id }} and s.state = 'stopped')
{%- endmacro %}
