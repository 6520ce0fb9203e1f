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
    socket_dir: PathBuf,
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
            socket_dir: path.clone(),
        };

        initdb(&bin, &path)?;
        configure(&path, settings)?;
        let log = File::create(path.join("log"))?;
        let server = as_server_user(&bin.join("postgres"), &path)
            .arg("-D")
            .arg(path.join("data"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A Ctrl-C at the terminal is for this process, which then stops the server.
            .process_group(0)
            .spawn()
            .context("cannot start postgres")?;
        let mut running = cluster.lock();
        running.server = Some(server);
        if place.keep
            && let Some(dir) = running.dir.take()
        {
            eprintln!("the cluster stays in {}", dir.keep().display());
        }
        drop(running);
        cluster.wait_until_ready()?;
        Ok(cluster)
    }

    /// A new connection to database `postgres`.
    pub fn connect(&self) -> Result<Client, postgres::Error> {
        Config::new()
            .host_path(&self.socket_dir)
            .port(PORT)
            .user("postgres")
            .dbname("postgres")
            .application_name("omen-demo")
            .connect(NoTls)
    }

    /// How a person reaches the server while it runs.
    pub fn psql(&self) -> String {
        format!(
            "psql -h {} -p {PORT} -U postgres",
            self.socket_dir.display()
        )
    }

    /// The last lines that the server wrote, to tell why it failed.
    pub fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.socket_dir.join("log")).unwrap_or_default();
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
        if let Some(dir) = self.dir.take() {
            let path = dir.path().to_path_buf();
            if let Err(error) = dir.close() {
                eprintln!("cannot remove {}: {error}", path.display());
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
        .env_remove("PGDATA");
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

fn configure(dir: &Path, settings: &[(&str, String)]) -> Result<()> {
    let path = dir.join("data/postgresql.conf");
    let mut text = fs::read_to_string(&path)?;
    text.push_str(&format!(
        "\nlisten_addresses = ''\nunix_socket_directories = '{}'\nport = {PORT}\n",
        dir.display()
    ));
    for (name, value) in settings {
        text.push_str(&format!("{name} = '{value}'\n"));
    }
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}
