package temporaltest

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/selfalign/selfalign/internal/devstack/child"
)

// execute changes the database of a service that does not run.
func execute(t *testing.T, dir string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "temporal.db")+"?mode=rw")
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	for _, statement := range statements {
		_, err := db.ExecContext(t.Context(), statement)
		require.NoError(t, err, statement)
	}
}

// try starts temporald on a folder and returns what it says.
func try(t *testing.T, dir string, flags ...string) (*child.Process, error) {
	t.Helper()
	binary, err := Binary()
	require.NoError(t, err)
	p, err := child.Start(t.Context(), child.Spec{
		Name: "Temporal", Command: append([]string{binary, "-dir", dir}, flags...),
		Log: filepath.Join(t.TempDir(), "log"), Ready: 60 * time.Second,
	})
	if err == nil {
		t.Cleanup(func() { p.Stop(10 * time.Second) })
	}
	return p, err
}

func TestDatabaseVersions(t *testing.T) {
	t.Parallel()
	s := Start(t)
	s.Kill(t)

	execute(t, s.Dir, "UPDATE selfalign_made_by SET server = '1.0.0'")
	p, err := try(t, s.Dir)
	require.NoError(t, err, "another version with the same tables is fine")
	p.Stop(10 * time.Second)

	execute(t, s.Dir, "ALTER TABLE shards ADD COLUMN more INT")
	_, err = try(t, s.Dir)
	var exit *child.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, child.Refused, exit.Code)
	require.Contains(t, exit.Last, "database belongs to another version of Temporal")
	require.Contains(t, exit.Last, "was made by 1.0.0")
	require.Contains(t, exit.Last, "Try:")
	require.NoFileExists(t, filepath.Join(s.Dir, "compare.db"))
}

func TestDatabaseThatIsNone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "temporal.db"), []byte("this is a text and no database at all, as anybody can see"), 0o600))
	_, err := try(t, dir)
	require.ErrorContains(t, err, "not a database")
	require.ErrorContains(t, err, "Try: a new data folder")
}

// A death while the tables are made leaves nothing that would pass for a database.
func TestHalfMadeDatabaseIsMadeAnew(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "temporal.db.new"), []byte("half"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "temporal.db.new-journal"), []byte("half"), 0o600))
	_, err := try(t, dir)
	require.NoError(t, err)
	require.NoFileExists(t, filepath.Join(dir, "temporal.db.new"))
}

func TestTwoOnOneFolder(t *testing.T) {
	t.Parallel()
	s := Start(t)
	_, err := try(t, s.Dir)
	var exit *child.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, child.Refused, exit.Code)
	require.Contains(t, exit.Last, "folder is in use by another process: "+s.Dir)

	_, err = try(t, t.TempDir(), "-port", portOf(s.Address))
	require.ErrorContains(t, err, "Temporal: port is taken: "+s.Address)
}
