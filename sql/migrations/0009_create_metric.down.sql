drop table {{ schema }}.position_mark;
drop table {{ schema }}.metric_snapshot;
drop type {{ schema }}.diagnosis;
drop type {{ schema }}.metric;
