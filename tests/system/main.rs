//! System tests: the package under test, installed on a booted Debian, judged from outside by a real ssh login.
//!
//! They need root and the root file systems of tests/system/prepare. A test that cannot run fails.

mod assertions;
mod attacks;
mod autopkgtest;
mod circumstances;
mod configurations;
mod controller;
mod crowd;
mod debian12;
mod decoys;
mod documented;
#[path = "../support/documents.rs"]
mod documents;
mod failure;
mod faults;
mod fleet;
mod fleet_page;
mod fleet_size;
mod hook;
mod injection;
mod instances;
mod interrupted;
mod layouts;
mod machine;
mod monitoring;
mod neighbours;
mod network;
mod newcomer;
mod next_start;
mod notify;
mod obstruction;
mod old_cgroup;
mod other_instance;
mod outage;
mod output;
mod package_runs;
mod packaging;
mod prevention;
mod quiet;
mod refusals;
mod release;
mod repair;
mod requests;
mod rescue;
mod rescue_end;
mod rescue_rules;
#[path = "../support/schema.rs"]
mod schema;
mod screens;
mod session;
mod settings_table;
mod situations;
mod soak;
mod soak_machine;
mod tried;
mod triggers;
mod upgrades;
