//! A private, throw-away PostgreSQL cluster.
//!
//! It lives in one temporary directory (data, socket, log), listens on a Unix
//! socket only, and is stopped and removed when the [`Cluster`] is dropped, on
//! Ctrl-C, SIGTERM and SIGHUP. Should this process be killed outright, the
//! kernel sends the server its immediate shutdown signal.

use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use postgres::{Client, Config, NoTls};
use tempfile::TempDir;

/// Names the socket file only: nothing listens on the network.
const PORT: u16 = 54_329;
/// The operating-system user that runs the server when we are root.
const SERVER_USER: &str = "postgres";
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Lines of the server's log that are shown after an error.
const LOG_TAIL: usize = 20;
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// A running server; dropping it stops the server and removes its files.
pub struct Cluster {
    running: Arc<Mutex<Running>>,
    /// Holds the data directory, the socket and the log.
    dir: PathBuf,
    /// Where the programs of PostgreSQL are.
    bin: PathBuf,
}

struct Running {
    server: Option<Child>,
    /// `None` once the directory is gone, or is to be kept.
    dir: Option<TempDir>,
}

/// Where the cluster is made and from which PostgreSQL.
pub struct Place<'a> {
    pub pg_config: &'a Path,
    /// Parent of the temporary directory.
    pub parent: &'a Path,
    /// Leave the data directory behind at the end.
    pub keep: bool,
}

impl Cluster {
    /// Creates and starts a cluster with `settings` appended to its configuration.
    pub fn start(place: &Place<'_>, settings: &[(&str, String)]) -> Result<Self> {
        let bin = bin_dir(place.pg_config)?;
        let dir = tempfile::Builder::new()
            .prefix("omen-demo-")
            .tempdir_in(place.parent)
            .with_context(|| format!("no temporary directory in {}", place.parent.display()))?;
        let path = dir.path().to_path_buf();
        if geteuid().is_root() {
            let user = User::from_name(SERVER_USER)?
                .with_context(|| format!("there is no user {SERVER_USER} to run the server as"))?;
            chown(&path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
        let running = Arc::new(Mutex::new(Running {
            server: None,
            dir: Some(dir),
        }));
        stop_on_signal(&running, place.keep)?;
        let cluster = Self {
            running,
            dir: path.clone(),
            bin,
        };

        initdb(&cluster.bin, &path)?;
        let address = [
            ("listen_addresses", String::new()),
            ("unix_socket_directories", path.display().to_string()),
            ("port", PORT.to_string()),
        ];
        configure(&path, &address)?;
        configure(&path, settings)?;
        cluster.launch()?;
        let mut running = cluster.lock();
        if place.keep
            && let Some(dir) = running.dir.take()
        {
            eprintln!("the cluster stays in {}", dir.keep().display());
        }
        drop(running);
        cluster.wait_until_ready()?;
        Ok(cluster)
    }

    /// Stops the server and starts it again with `settings` changed. Connections
    /// must be closed before: the server waits for nobody.
    pub fn restart(&self, settings: &[(&str, String)]) -> Result<()> {
        self.lock().stop_server(Signal::SIGINT);
        configure(&self.dir, settings)?;
        self.launch()?;
        self.wait_until_ready()
    }

    fn launch(&self) -> Result<()> {
        let mut running = self.lock();
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("log"))?;
        let server = self
            .program("postgres")
            .arg("-D")
            .arg(self.dir.join("data"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A Ctrl-C at the terminal is for this process, which then stops the server.
            .process_group(0)
            .spawn()
            .context("cannot start postgres")?;
        running.server = Some(server);
        Ok(())
    }

    /// A program of PostgreSQL, to be run by the server's user in the cluster's directory.
    pub fn program(&self, name: &str) -> Command {
        as_server_user(&self.bin.join(name), &self.dir)
    }

    /// `pgbench` with the options that name this server.
    pub fn pgbench(&self) -> Command {
        let mut command = self.program("pgbench");
        command
            .arg("--host")
            .arg(&self.dir)
            .arg(format!("--port={PORT}"))
            .args(["--username=postgres", "--no-vacuum"]);
        command
    }

    /// A directory that both the server and this process can write to.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A new connection to database `postgres`.
    pub fn connect(&self) -> Result<Client, postgres::Error> {
        self.connect_to("postgres")
    }

    /// A new connection to `database`.
    pub fn connect_to(&self, database: &str) -> Result<Client, postgres::Error> {
        Config::new()
            .host_path(&self.dir)
            .port(PORT)
            .user("postgres")
            .dbname(database)
            .application_name("omen-demo")
            .connect(NoTls)
    }

    /// How a person reaches the server while it runs.
    pub fn psql(&self) -> String {
        format!("psql -h {} -p {PORT} -U postgres", self.dir.display())
    }

    /// The last lines that the server wrote, to tell why it failed.
    pub fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n")
    }

    fn wait_until_ready(&self) -> Result<()> {
        let begun = Instant::now();
        loop {
            let Err(error) = self.connect() else {
                return Ok(());
            };
            let exited = match self.lock().server.as_mut() {
                Some(server) => server.try_wait()?,
                None => None,
            };
            if exited.is_some() || begun.elapsed() > START_TIMEOUT {
                bail!("the server did not start: {error}\n{}", self.log_tail());
            }
            sleep(Duration::from_millis(50));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.lock().stop(Signal::SIGINT);
    }
}

impl Running {
    /// Stops the server (SIGINT: fast, SIGQUIT: immediate) and removes its files.
    fn stop(&mut self, how: Signal) {
        self.stop_server(how);
        if let Some(dir) = self.dir.take() {
            let path = dir.path().to_path_buf();
            if let Err(error) = dir.close() {
                eprintln!("cannot remove {}: {error}", path.display());
            }
        }
    }

    fn stop_server(&mut self, how: Signal) {
        if let Some(mut server) = self.server.take() {
            let pid = i32::try_from(server.id()).map(Pid::from_raw);
            if let Ok(pid) = pid {
                let _ = kill(pid, how);
                let begun = Instant::now();
                while matches!(server.try_wait(), Ok(None)) {
                    if begun.elapsed() > STOP_TIMEOUT {
                        let _ = kill(pid, Signal::SIGQUIT);
                        let _ = server.wait();
                    }
                    sleep(Duration::from_millis(20));
                }
            }
        }
    }
}

/// Installs the handler for Ctrl-C, SIGTERM and SIGHUP; it ends the process.
fn stop_on_signal(running: &Arc<Mutex<Running>>, keep: bool) -> Result<()> {
    let running = Arc::clone(running);
    ctrlc::set_handler(move || {
        crate::interrupted::set();
        eprintln!("\ninterrupted: stopping the server");
        running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .stop(if keep {
                Signal::SIGINT
            } else {
                Signal::SIGQUIT
            });
        std::process::exit(130);
    })
    .context("cannot catch Ctrl-C")
}

fn bin_dir(pg_config: &Path) -> Result<PathBuf> {
    let output = Command::new(pg_config)
        .arg("--bindir")
        .output()
        .with_context(|| format!("cannot run {}", pg_config.display()))?;
    ensure!(output.status.success(), "{} failed", pg_config.display());
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

/// `program`, run in `dir`, never as root, and not outliving this process.
fn as_server_user(program: &Path, dir: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "QUIT"]);
    if geteuid().is_root() {
        command
            .arg(format!("--reuid={SERVER_USER}"))
            .arg(format!("--regid={SERVER_USER}"))
            .arg("--init-groups");
    }
    command
        .arg(program)
        .current_dir(dir)
        .env("HOME", dir)
        .env_remove("PGDATA")
        .env_remove("RUST_BACKTRACE");
    command
}

fn initdb(bin: &Path, dir: &Path) -> Result<()> {
    let output = as_server_user(&bin.join("initdb"), dir)
        .arg("-D")
        .arg(dir.join("data"))
        .args(["--auth=trust", "--username=postgres", "--no-sync"])
        .args(["--encoding=UTF8", "--locale=C"])
        .stdin(Stdio::null())
        .output()
        .context("cannot run setpriv and initdb")?;
    ensure!(
        output.status.success(),
        "initdb failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Adds `settings` to the configuration; of a setting given twice the last one holds.
fn configure(dir: &Path, settings: &[(&str, String)]) -> Result<()> {
    let path = dir.join("data/postgresql.conf");
    let mut text = fs::read_to_string(&path)?;
    for (name, value) in settings {
        text.push_str(&format!("\n{name} = '{value}'"));
    }
    text.push('\n');
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}
