package embedded

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/headers"
	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/metrics"
	persistence "go.temporal.io/server/common/persistence/sql"
	"go.temporal.io/server/common/persistence/sql/sqlplugin"
	"go.temporal.io/server/common/persistence/sql/sqlplugin/sqlite"
	"go.temporal.io/server/common/resolver"
	schema "go.temporal.io/server/schema/sqlite"
	"google.golang.org/protobuf/types/known/durationpb"
)

// ErrVersion is the error of a database whose tables are not those that this server works on.
var ErrVersion = errors.New("database belongs to another version of Temporal")

// connection describes the database file to Temporal's SQLite plug-in. With these settings a no-op activity costs a
// quarter of what it costs with the plug-in's own; several connections would lock each other out.
func connection(path string) *config.SQL {
	return &config.SQL{
		PluginName:   sqlite.PluginName,
		DatabaseName: path,
		MaxConns:     1,
		MaxIdleConns: 1,
		ConnectAttributes: map[string]string{
			"mode":         "rwc",
			"journal_mode": "wal",
			"synchronous":  "1",
			"busy_timeout": "10000",
		},
	}
}

// prepare makes the database if there is none and checks it if there is one.
func prepare(ctx context.Context, path string, retention time.Duration, attributes map[string]enumspb.IndexedValueType) error {
	_, err := os.Stat(path)
	if err == nil {
		return check(ctx, path)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("look for database: %w", err)
	}
	return create(path, retention, attributes)
}

// create builds the database under another name and renames it when it is whole, since setting up the tables takes many
// statements and the server asks only whether the file exists.
func create(path string, retention time.Duration, attributes map[string]enumspb.IndexedValueType) error {
	aside := path + ".new"
	if err := removeDatabase(aside); err != nil {
		return err
	}
	cfg := connection(aside)
	cfg.ConnectAttributes["journal_mode"] = "delete" // no second file to rename
	cfg.ConnectAttributes["synchronous"] = "2"
	if err := schema.SetupSchema(cfg); err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	namespace, err := schema.NewNamespaceConfig(clusterName, Namespace, false, attributes)
	if err != nil {
		return fmt.Errorf("create namespace: %w", err)
	}
	namespace.Detail.Config.Retention = durationpb.New(retention)
	if err := schema.CreateNamespaces(cfg, namespace); err != nil {
		return fmt.Errorf("create namespace: %w", err)
	}
	if err := stamp(cfg); err != nil {
		return err
	}
	if err := syncFile(aside); err != nil {
		return err
	}
	if err := os.Rename(aside, path); err != nil {
		return fmt.Errorf("put database in place: %w", err)
	}
	return syncFile(filepath.Dir(path))
}

// stamp notes who made the database.
func stamp(cfg *config.SQL) error {
	db, err := persistence.NewSQLAdminDB(sqlplugin.DbKindUnknown, cfg, resolver.NewNoopResolver(), log.NewNoopLogger(), metrics.NoopMetricsHandler)
	if err != nil {
		return fmt.Errorf("open new database: %w", err)
	}
	defer func() { _ = db.Close() }()
	for _, statement := range []string{
		"CREATE TABLE selfalign_made_by(server TEXT NOT NULL)",
		"INSERT INTO selfalign_made_by(server) VALUES('" + headers.ServerVersion + "')",
	} {
		if err := db.Exec(statement); err != nil {
			return fmt.Errorf("stamp database: %w", err)
		}
	}
	return nil
}

// check accepts a database made by this version, or by another whose tables are the same.
func check(ctx context.Context, path string) error {
	db, err := sql.Open("sqlite", "file:"+path+"?mode=rw&_pragma=busy_timeout=10000")
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	defer func() { _ = db.Close() }()
	tables, err := tablesOf(ctx, db)
	if err != nil {
		return fmt.Errorf("read database %s: %w. Try: a new data folder", path, err)
	}
	maker := "an unknown version"
	if err := db.QueryRowContext(ctx, "SELECT server FROM selfalign_made_by").Scan(&maker); err == nil && maker == headers.ServerVersion {
		return nil
	}
	same, err := currentTables(ctx, filepath.Dir(path))
	if err != nil {
		return err
	}
	if tables != same {
		return fmt.Errorf("%w: %s was made by %s, this is %s, and their tables differ. Try: a new data folder, or the program that made it",
			ErrVersion, path, maker, headers.ServerVersion)
	}
	return nil
}

// currentTables returns the digest of the tables that this server would make.
func currentTables(ctx context.Context, dir string) (digest string, err error) {
	path := filepath.Join(dir, "compare.db")
	if err := removeDatabase(path); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, removeDatabase(path)) }()
	cfg := connection(path)
	cfg.ConnectAttributes["journal_mode"] = "off"
	if err := schema.SetupSchema(cfg); err != nil {
		return "", fmt.Errorf("create database to compare with: %w", err)
	}
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	if err != nil {
		return "", fmt.Errorf("open database to compare with: %w", err)
	}
	defer func() { _ = db.Close() }()
	return tablesOf(ctx, db)
}

// tablesOf returns a digest over the definitions of all tables and indexes, our own stamp aside.
func tablesOf(ctx context.Context, db *sql.DB) (string, error) {
	rows, err := db.QueryContext(ctx, "SELECT type, name, coalesce(sql, '') FROM sqlite_master WHERE name <> 'selfalign_made_by' ORDER BY type, name")
	if err != nil {
		return "", fmt.Errorf("list tables: %w", err)
	}
	defer func() { _ = rows.Close() }()
	sum := sha256.New()
	for rows.Next() {
		var kind, name, text string
		if err := rows.Scan(&kind, &name, &text); err != nil {
			return "", fmt.Errorf("list tables: %w", err)
		}
		fmt.Fprintf(sum, "%q %q %q\n", kind, name, text)
	}
	if err := rows.Err(); err != nil {
		return "", fmt.Errorf("list tables: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func removeDatabase(path string) error {
	for _, suffix := range []string{"", "-journal", "-wal", "-shm"} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove %s: %w", path+suffix, err)
		}
	}
	return nil
}

func syncFile(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	defer func() { _ = file.Close() }()
	if err := file.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}
