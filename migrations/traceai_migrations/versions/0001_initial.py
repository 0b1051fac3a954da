"""The first schema: journal, tree, evidence, operations, partitions, and the triggers that keep evidence append-only."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


APPEND_ONLY = (
    "journal", "tree_node", "inspection", "runtime", "dataset_snapshot", "model_version", "model_event", "model_refused",
    "model_export", "review", "report_issued", "ledger_opened", "ledger_key", "witness_policy", "tables_rebuilt", "gap",
    "explanation_quality", "heat_map", "dataset_image", "checkpoint", "access_log",
)  # fmt: skip

# Against accidents. Malice is not stopped by a trigger; it is found by verification (docs/trust.md).
REFUSE_CHANGE = """
CREATE FUNCTION traceai_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'traceai evidence is append-only: % on % refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END
$$
"""

# ALWAYS: replication sessions, in which ordinary triggers do not fire, change nothing either. Every partition has triggers of
# its own, because TRUNCATE of a partition asks the partition's triggers and not its parent's.
PROTECT = """
CREATE FUNCTION traceai_protect(target regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_trigger WHERE tgrelid = target AND tgname = 'append_only_rows') THEN
        EXECUTE format('CREATE TRIGGER append_only_rows BEFORE UPDATE OR DELETE ON %s'
                       ' FOR EACH ROW EXECUTE FUNCTION traceai_refuse_change()', target);
    END IF;
    IF NOT EXISTS (SELECT 1 FROM pg_trigger WHERE tgrelid = target AND tgname = 'append_only_table') THEN
        EXECUTE format('CREATE TRIGGER append_only_table BEFORE TRUNCATE ON %s'
                       ' FOR EACH STATEMENT EXECUTE FUNCTION traceai_refuse_change()', target);
    END IF;
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER append_only_rows', target);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER append_only_table', target);
END
$$
"""

# A partition holds 2^20 = 1048576 ledger indices. It is made beside its parent and then attached, which waits for no reader.
# SECURITY DEFINER: whoever appends owns no table; the function gives nothing but empty, protected partitions.
EXTEND = """
CREATE FUNCTION traceai_extend(last bigint) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    parent text;
    part text;
    number bigint;
BEGIN
    -- Whoever appends may ask for what the next entries need, and not for a million partitions.
    last := least(last, coalesce((SELECT max(index) FROM journal), 0) + 4 * 1048576);
    FOREACH parent IN ARRAY ARRAY['journal', 'inspection', 'heat_map'] LOOP
        -- From the newest down to the first that is there: every one before it is there too.
        FOR number IN REVERSE last / 1048576 .. 0 LOOP
            part := parent || '_p' || number;
            EXIT WHEN to_regclass(format('%I', part)) IS NOT NULL;
            EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', part, parent);
            EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)',
                           parent, part, number * 1048576, (number + 1) * 1048576);
            PERFORM traceai_protect(part::regclass);
        END LOOP;
    END LOOP;
END
$$
"""


def upgrade() -> None:
    op.create_table(
        "access_log",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user_name", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("permission", sa.String(), nullable=False),
        sa.Column("allowed", sa.Boolean(), nullable=False),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_log")),
    )
    op.create_index(op.f("ix_access_log_at"), "access_log", ["at"], unique=False)
    op.create_table(
        "app_user",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "role IN ('station', 'reviewer', 'engineer', 'approver', 'auditor', 'admin')", name=op.f("ck_app_user_role")
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_app_user")),
    )
    op.create_table(
        "checkpoint",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_checkpoint")),
    )
    op.create_index("ix_checkpoint_size", "checkpoint", ["size", "created_at"], unique=False)
    op.create_table(
        "dataset_snapshot",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("journal_index", sa.BigInteger(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("listing", sa.LargeBinary(), nullable=False),
        sa.Column("images", sa.BigInteger(), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("made_by", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset_snapshot")),
        sa.UniqueConstraint("journal_index", name=op.f("uq_dataset_snapshot_journal_index")),
        sa.UniqueConstraint("name", "digest", name=op.f("uq_dataset_snapshot_name_digest")),
    )
    op.create_table(
        "gap",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("journal_index", sa.BigInteger(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("station", sa.String(), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cause_code", sa.String(), nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("delayed", sa.BigInteger(), nullable=False),
        sa.Column("lost", sa.BigInteger(), nullable=False),
        sa.Column("first_trigger", sa.BigInteger(), nullable=True),
        sa.Column("last_trigger", sa.BigInteger(), nullable=True),
        sa.Column("actor", sa.String(), nullable=False),
        sa.CheckConstraint("ended_at >= began_at", name=op.f("ck_gap_ended_at")),
        sa.CheckConstraint("delayed >= 0 AND lost >= 0", name=op.f("ck_gap_counts")),
        sa.CheckConstraint(
            "(first_trigger IS NULL AND last_trigger IS NULL) OR (first_trigger IS NOT NULL AND last_trigger IS NOT NULL AND first_trigger >= 0 AND last_trigger >= first_trigger)",
            name=op.f("ck_gap_triggers"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gap")),
        sa.UniqueConstraint("journal_index", name=op.f("uq_gap_journal_index")),
    )
    op.create_index("ix_gap_station", "gap", ["station", "journal_index"], unique=False)
    op.create_table(
        "heat_map",
        sa.Column("journal_index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("grid", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("journal_index", name=op.f("pk_heat_map")),
        postgresql_partition_by="RANGE (journal_index)",
    )
    op.create_table(
        "inspection",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("journal_index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("station", sa.String(), nullable=False),
        sa.Column("station_seq", sa.BigInteger(), nullable=False),
        sa.Column("trigger", sa.BigInteger(), nullable=True),
        sa.Column("product", sa.String(), nullable=True),
        sa.Column("serial", sa.String(), nullable=True),
        sa.Column("lot", sa.String(), nullable=True),
        sa.Column("view", sa.String(), nullable=True),
        sa.Column("image_sha256", sa.LargeBinary(), nullable=True),
        sa.Column("pixel_sha256", sa.LargeBinary(), nullable=True),
        sa.Column("image_bytes", sa.BigInteger(), nullable=True),
        sa.Column("image_width", sa.Integer(), nullable=True),
        sa.Column("image_height", sa.Integer(), nullable=True),
        sa.Column("image_media_type", sa.String(), nullable=True),
        sa.Column("source", sa.String(), nullable=True),
        sa.Column("model_name", sa.String(), nullable=False),
        sa.Column("model_version", sa.Integer(), nullable=False),
        sa.Column("model_digest", sa.LargeBinary(), nullable=False),
        sa.Column("logits", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("scores", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("defect_score", sa.Numeric(asdecimal=False), nullable=True),
        sa.Column("pass_below", sa.Numeric(asdecimal=False), nullable=True),
        sa.Column("reject_at", sa.Numeric(asdecimal=False), nullable=True),
        sa.Column("verdict", sa.String(), nullable=True),
        sa.Column("predicted", sa.String(), nullable=True),
        sa.Column("explanation_method", sa.String(), nullable=True),
        sa.Column("explanation_layer", sa.String(), nullable=True),
        sa.Column("explanation_target", sa.String(), nullable=True),
        sa.Column("explanation_height", sa.Integer(), nullable=True),
        sa.Column("explanation_width", sa.Integer(), nullable=True),
        sa.Column("explanation_sha256", sa.LargeBinary(), nullable=True),
        sa.Column("explanation_min", sa.Numeric(asdecimal=False), nullable=True),
        sa.Column("explanation_max", sa.Numeric(asdecimal=False), nullable=True),
        sa.Column("explanation_sum", sa.Numeric(asdecimal=False), nullable=True),
        sa.Column("explanation_positive_fraction", sa.Numeric(asdecimal=False), nullable=True),
        sa.Column("explanation_peak_row", sa.Integer(), nullable=True),
        sa.Column("explanation_peak_column", sa.Integer(), nullable=True),
        sa.Column("explanation_bias", sa.Numeric(asdecimal=False), nullable=True),
        sa.Column("explanation_residual", sa.Numeric(asdecimal=False), nullable=True),
        sa.Column("explanation_degenerate", sa.Boolean(), nullable=True),
        sa.Column("audit_stratum", sa.String(), nullable=True),
        sa.Column("audit_probability", sa.Numeric(asdecimal=False), nullable=True),
        sa.Column("audit_drawn", sa.Boolean(), nullable=True),
        sa.Column("runtime", sa.LargeBinary(), nullable=True),
        sa.Column("latency_us", sa.BigInteger(), nullable=True),
        sa.Column("failure_code", sa.String(), nullable=True),
        sa.Column("failure", sa.String(), nullable=True),
        sa.CheckConstraint("verdict IN ('pass', 'reject', 'undecided')", name=op.f("ck_inspection_verdict")),
        sa.CheckConstraint(
            "(failure_code IS NULL AND verdict IS NOT NULL AND predicted IS NOT NULL AND scores IS NOT NULL AND image_sha256 IS NOT NULL AND pixel_sha256 IS NOT NULL AND explanation_sha256 IS NOT NULL AND audit_drawn IS NOT NULL AND runtime IS NOT NULL) OR (failure_code IS NOT NULL AND failure IS NOT NULL AND verdict IS NULL AND defect_score IS NULL)",
            name=op.f("ck_inspection_decided_or_failed"),
        ),
        sa.CheckConstraint(
            "audit_probability >= 0 AND audit_probability <= 1", name=op.f("ck_inspection_audit_probability")
        ),
        sa.CheckConstraint("defect_score >= 0 AND defect_score <= 1", name=op.f("ck_inspection_defect_score")),
        sa.CheckConstraint("station_seq >= 1", name=op.f("ck_inspection_station_seq")),
        sa.PrimaryKeyConstraint("journal_index", name=op.f("pk_inspection")),
        postgresql_partition_by="RANGE (journal_index)",
    )
    op.create_index("ix_inspection_id", "inspection", ["id"], unique=False)
    op.create_index("ix_inspection_image_sha256", "inspection", ["image_sha256"], unique=False)
    op.create_index("ix_inspection_lot", "inspection", ["lot", "journal_index"], unique=False)
    op.create_index("ix_inspection_model", "inspection", ["model_name", "model_version", "journal_index"], unique=False)
    op.create_index("ix_inspection_occurred_at", "inspection", ["occurred_at"], unique=False)
    op.create_index("ix_inspection_serial", "inspection", ["serial", "journal_index"], unique=False)
    op.create_index("ix_inspection_station", "inspection", ["station", "station_seq"], unique=False)
    op.create_index("ix_inspection_verdict", "inspection", ["verdict", "journal_index"], unique=False)
    op.create_table(
        "journal",
        sa.Column("index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        sa.Column("leaf_hash", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint('"index" >= 0', name=op.f("ck_journal_index")),
        sa.CheckConstraint("octet_length(leaf_hash) = 32", name=op.f("ck_journal_leaf_hash")),
        sa.PrimaryKeyConstraint("index", name=op.f("pk_journal")),
        postgresql_partition_by='RANGE ("index")',
    )
    op.create_table(
        "ledger_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("frontier", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_ledger_head_only_one")),
        sa.CheckConstraint("octet_length(root) = 32", name=op.f("ck_ledger_head_root")),
        sa.CheckConstraint("size >= 0", name=op.f("ck_ledger_head_size")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_head")),
    )
    op.create_table(
        "ledger_key",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("journal_index", sa.BigInteger(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("replaces", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_key")),
        sa.UniqueConstraint("journal_index", name=op.f("uq_ledger_key_journal_index")),
    )
    op.create_table(
        "ledger_opened",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("journal_index", sa.BigInteger(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("previous_origin", sa.String(), nullable=True),
        sa.Column("previous_size", sa.BigInteger(), nullable=True),
        sa.Column("previous_root", sa.LargeBinary(), nullable=True),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_opened")),
        sa.UniqueConstraint("journal_index", name=op.f("uq_ledger_opened_journal_index")),
        sa.UniqueConstraint("origin", name=op.f("uq_ledger_opened_origin")),
    )
    op.create_table(
        "explanation_quality",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("journal_index", sa.BigInteger(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("model_name", sa.String(), nullable=False),
        sa.Column("model_version", sa.Integer(), nullable=False),
        sa.Column("model_digest", sa.LargeBinary(), nullable=False),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("layer", sa.String(), nullable=False),
        sa.Column("snapshot_name", sa.String(), nullable=False),
        sa.Column("snapshot_digest", sa.LargeBinary(), nullable=False),
        sa.Column("images", sa.String(), nullable=False),
        sa.Column("randomisation", sa.String(), nullable=False),
        sa.Column("measures", sa.JSON(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.CheckConstraint(
            "randomisation IN ('gone', 'survive', 'not-judged')", name=op.f("ck_explanation_quality_randomisation")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_explanation_quality")),
        sa.UniqueConstraint("journal_index", name=op.f("uq_explanation_quality_journal_index")),
    )
    op.create_index(op.f("ix_explanation_quality_model_name"), "explanation_quality", ["model_name"], unique=False)
    op.create_table(
        "model_event",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("journal_index", sa.BigInteger(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("model_name", sa.String(), nullable=False),
        sa.Column("model_version", sa.Integer(), nullable=False),
        sa.Column("model_digest", sa.LargeBinary(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.CheckConstraint("action IN ('waive', 'approve', 'activate', 'retire')", name=op.f("ck_model_event_action")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_event")),
        sa.UniqueConstraint("journal_index", name=op.f("uq_model_event_journal_index")),
    )
    op.create_index(op.f("ix_model_event_model_name"), "model_event", ["model_name"], unique=False)
    op.create_table(
        "model_export",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("journal_index", sa.BigInteger(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("model_name", sa.String(), nullable=False),
        sa.Column("model_version", sa.Integer(), nullable=False),
        sa.Column("model_digest", sa.LargeBinary(), nullable=False),
        sa.Column("format", sa.String(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("tools", sa.JSON(), nullable=False),
        sa.Column("images", sa.BigInteger(), nullable=False),
        sa.Column("logit_difference", sa.Numeric(asdecimal=False), nullable=False),
        sa.Column("grid_difference", sa.Numeric(asdecimal=False), nullable=False),
        sa.Column("made_by", sa.String(), nullable=False),
        sa.CheckConstraint("format IN ('onnx')", name=op.f("ck_model_export_format")),
        sa.CheckConstraint("logit_difference >= 0 AND grid_difference >= 0", name=op.f("ck_model_export_differences")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_export")),
        sa.UniqueConstraint("journal_index", name=op.f("uq_model_export_journal_index")),
    )
    op.create_index(op.f("ix_model_export_model_name"), "model_export", ["model_name"], unique=False)
    op.create_index(op.f("ix_model_export_sha256"), "model_export", ["sha256"], unique=False)
    op.create_table(
        "model_refused",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("journal_index", sa.BigInteger(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("model_name", sa.String(), nullable=False),
        sa.Column("model_version", sa.Integer(), nullable=False),
        sa.Column("model_digest", sa.LargeBinary(), nullable=False),
        sa.Column("file", sa.String(), nullable=False),
        sa.Column("expected", sa.LargeBinary(), nullable=False),
        sa.Column("found", sa.LargeBinary(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_refused")),
        sa.UniqueConstraint("journal_index", name=op.f("uq_model_refused_journal_index")),
    )
    op.create_table(
        "model_version",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("journal_index", sa.BigInteger(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("weights_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("architecture", sa.String(), nullable=False),
        sa.Column("parameters", sa.BigInteger(), nullable=False),
        sa.Column("layer", sa.String(), nullable=False),
        sa.Column("classes", sa.JSON(), nullable=False),
        sa.Column("pass_below", sa.Numeric(asdecimal=False), nullable=True),
        sa.Column("reject_at", sa.Numeric(asdecimal=False), nullable=True),
        sa.Column("snapshot_name", sa.String(), nullable=True),
        sa.Column("snapshot_digest", sa.LargeBinary(), nullable=True),
        sa.Column("training", sa.JSON(), nullable=False),
        sa.Column("evaluation", sa.JSON(), nullable=False),
        sa.Column("made_by", sa.String(), nullable=False),
        sa.CheckConstraint("version >= 1", name=op.f("ck_model_version_version")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_version")),
        sa.UniqueConstraint("journal_index", name=op.f("uq_model_version_journal_index")),
        sa.UniqueConstraint("name", "version", name=op.f("uq_model_version_name_version")),
    )
    op.create_index(op.f("ix_model_version_digest"), "model_version", ["digest"], unique=False)
    op.create_table(
        "report_issued",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("journal_index", sa.BigInteger(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("scope", sa.JSON(), nullable=False),
        sa.Column("issued_by", sa.String(), nullable=False),
        sa.CheckConstraint("kind IN ('audit', 'decision')", name=op.f("ck_report_issued_kind")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_report_issued")),
        sa.UniqueConstraint("journal_index", name=op.f("uq_report_issued_journal_index")),
    )
    op.create_index(op.f("ix_report_issued_sha256"), "report_issued", ["sha256"], unique=False)
    op.create_table(
        "review",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("journal_index", sa.BigInteger(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("inspection_id", sa.Uuid(), nullable=False),
        sa.Column("inspection_leaf", sa.LargeBinary(), nullable=False),
        sa.Column("truth", sa.String(), nullable=False),
        sa.Column("defect_type", sa.String(), nullable=True),
        sa.Column("reviewer", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.CheckConstraint("source IN ('human', 'simulated')", name=op.f("ck_review_source")),
        sa.CheckConstraint("truth = 'defective' OR defect_type IS NULL", name=op.f("ck_review_defect_type")),
        sa.CheckConstraint("truth IN ('good', 'defective')", name=op.f("ck_review_truth")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_review")),
        sa.UniqueConstraint("journal_index", name=op.f("uq_review_journal_index")),
    )
    op.create_index(op.f("ix_review_inspection_id"), "review", ["inspection_id"], unique=False)
    op.create_table(
        "runtime",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("journal_index", sa.BigInteger(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("environment", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runtime")),
        sa.UniqueConstraint("digest", name=op.f("uq_runtime_digest")),
        sa.UniqueConstraint("journal_index", name=op.f("uq_runtime_journal_index")),
    )
    op.create_table(
        "stage_latency",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("station", sa.String(), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("p50_us", sa.BigInteger(), nullable=False),
        sa.Column("p95_us", sa.BigInteger(), nullable=False),
        sa.Column("p99_us", sa.BigInteger(), nullable=False),
        sa.Column("max_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stage_latency")),
    )
    op.create_index("ix_stage_latency_station", "stage_latency", ["station", "ended_at"], unique=False)
    op.create_table(
        "station",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("audit_pass_probability", sa.Float(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "audit_pass_probability > 0 AND audit_pass_probability <= 1", name=op.f("ck_station_audit_pass_probability")
        ),
        sa.CheckConstraint("last_seq >= 0", name=op.f("ck_station_last_seq")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_station")),
    )
    op.create_table(
        "tables_rebuilt",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("journal_index", sa.BigInteger(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("mended", sa.JSON(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tables_rebuilt")),
        sa.UniqueConstraint("journal_index", name=op.f("uq_tables_rebuilt_journal_index")),
    )
    op.create_table(
        "tree_node",
        sa.Column("level", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint('"index" >= 0', name=op.f("ck_tree_node_index")),
        sa.CheckConstraint("level BETWEEN 1 AND 7", name=op.f("ck_tree_node_level")),
        sa.CheckConstraint("octet_length(hash) = 32", name=op.f("ck_tree_node_hash")),
        sa.PrimaryKeyConstraint("level", "index", name=op.f("pk_tree_node")),
    )
    op.create_table(
        "witness_policy",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("journal_index", sa.BigInteger(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("threshold", sa.BigInteger(), nullable=False),
        sa.Column("witnesses", sa.JSON(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_witness_policy")),
        sa.UniqueConstraint("journal_index", name=op.f("uq_witness_policy_journal_index")),
    )
    op.create_table(
        "api_token",
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("user_name", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["user_name"], ["app_user.name"], name=op.f("fk_api_token_user_name")),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_api_token")),
    )
    op.create_index(op.f("ix_api_token_user_name"), "api_token", ["user_name"], unique=False)
    op.create_table(
        "dataset_image",
        sa.Column("snapshot_id", sa.Uuid(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("defect_type", sa.String(), nullable=False),
        sa.Column("mask_path", sa.String(), nullable=True),
        sa.Column("split", sa.String(), nullable=False),
        sa.Column("group_id", sa.String(), nullable=False),
        sa.Column("condition", sa.String(), nullable=False),
        sa.Column("label_note", sa.String(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("pixel_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("mask_sha256", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint("label IN ('good', 'defect')", name=op.f("ck_dataset_image_label")),
        sa.CheckConstraint("split IN ('train', 'val', 'test')", name=op.f("ck_dataset_image_split")),
        sa.ForeignKeyConstraint(
            ["snapshot_id"],
            ["dataset_snapshot.id"],
            name=op.f("fk_dataset_image_snapshot_id"),
            initially="IMMEDIATE",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("snapshot_id", "path", name=op.f("pk_dataset_image")),
    )
    op.create_index(op.f("ix_dataset_image_sha256"), "dataset_image", ["sha256"], unique=False)
    op.execute("INSERT INTO ledger_head (id, size, root, frontier) VALUES (1, 0, sha256(''), '')")
    op.execute(REFUSE_CHANGE)
    op.execute(PROTECT)
    op.execute(EXTEND)
    op.execute("REVOKE EXECUTE ON FUNCTION traceai_protect(regclass), traceai_extend(bigint) FROM PUBLIC")
    for table in APPEND_ONLY:
        op.execute(f"SELECT traceai_protect('{table}')")
    op.execute("SELECT traceai_extend(0)")


def downgrade() -> None:
    op.drop_index(op.f("ix_dataset_image_sha256"), table_name="dataset_image")
    op.drop_table("dataset_image")
    op.drop_index(op.f("ix_api_token_user_name"), table_name="api_token")
    op.drop_table("api_token")
    op.drop_table("witness_policy")
    op.drop_table("tree_node")
    op.drop_table("tables_rebuilt")
    op.drop_table("station")
    op.drop_index("ix_stage_latency_station", table_name="stage_latency")
    op.drop_table("stage_latency")
    op.drop_table("runtime")
    op.drop_index(op.f("ix_review_inspection_id"), table_name="review")
    op.drop_table("review")
    op.drop_index(op.f("ix_report_issued_sha256"), table_name="report_issued")
    op.drop_table("report_issued")
    op.drop_index(op.f("ix_model_version_digest"), table_name="model_version")
    op.drop_table("model_version")
    op.drop_table("model_refused")
    op.drop_index(op.f("ix_model_export_sha256"), table_name="model_export")
    op.drop_index(op.f("ix_model_export_model_name"), table_name="model_export")
    op.drop_table("model_export")
    op.drop_index(op.f("ix_model_event_model_name"), table_name="model_event")
    op.drop_table("model_event")
    op.drop_index(op.f("ix_explanation_quality_model_name"), table_name="explanation_quality")
    op.drop_table("explanation_quality")
    op.drop_table("ledger_opened")
    op.drop_table("ledger_key")
    op.drop_table("ledger_head")
    op.drop_table("journal")
    op.drop_index("ix_inspection_verdict", table_name="inspection")
    op.drop_index("ix_inspection_station", table_name="inspection")
    op.drop_index("ix_inspection_serial", table_name="inspection")
    op.drop_index("ix_inspection_occurred_at", table_name="inspection")
    op.drop_index("ix_inspection_model", table_name="inspection")
    op.drop_index("ix_inspection_lot", table_name="inspection")
    op.drop_index("ix_inspection_image_sha256", table_name="inspection")
    op.drop_index("ix_inspection_id", table_name="inspection")
    op.drop_table("inspection")
    op.drop_table("heat_map")
    op.drop_index("ix_gap_station", table_name="gap")
    op.drop_table("gap")
    op.drop_table("dataset_snapshot")
    op.drop_index("ix_checkpoint_size", table_name="checkpoint")
    op.drop_table("checkpoint")
    op.drop_table("app_user")
    op.drop_index(op.f("ix_access_log_at"), table_name="access_log")
    op.drop_table("access_log")
    op.execute("DROP FUNCTION traceai_extend(bigint)")
    op.execute("DROP FUNCTION traceai_protect(regclass)")
    op.execute("DROP FUNCTION traceai_refuse_change()")
