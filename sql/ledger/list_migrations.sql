select migration, checksum, version, applied_at
from {{ schema }}.migration
order by migration;
