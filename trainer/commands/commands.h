// One function and one struct of options per subcommand; main.cpp maps the command line onto them.
// A command returns its exit code; what goes wrong is thrown as Error and caught in main alone. Results go to
// standard output, logs to standard error. Only commands that take a world may use MPI.
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "parallel/communicator.h"
#include "parallel/mpi/mpi_session.h"
#include "trainer/config/run_config.h"
#include "trainer/cost/sign_of_life.h"
#include "trainer/run/run_lock.h"

namespace jevons {

// A run's configuration as the command line names it.
struct ConfigArguments {
  std::string file;                    // YAML
  std::vector<std::string> overrides;  // "model.num_layers=2"
};

struct TrainOptions {
  ConfigArguments config;
  std::string resume =
      "auto";             // auto: the checkpoint on which the run stands; never; or the path of a checkpoint
  std::string init_from;  // else weights from this checkpoint or run; empty: random weights
  double exit_after_minutes = 0;                        // since the start of the process; 0: no limit
  std::chrono::steady_clock::time_point process_start;  // for the account of device-seconds
  int local_workers = 1;  // workers on this node, which share its cores (MpiSession::local_size)
  int local_rank = 0;     // of this one among them
};

// Of one worker, from before MPI is initialised until after it is finalised.
struct TrainStart {
  std::unique_ptr<RunLock> lock;     // on rank 0, once the run directory is claimed
  std::unique_ptr<SignOfLife> sign;  // null: the configuration is not one of a run
  RunConfig config;                  // as it was read, once; that of rank 0 counts
  std::exception_ptr problem;        // why it could not be read
};
// Begins the account of this worker; what is wrong with the configuration is left to run_train to say.
TrainStart begin_train(const TrainOptions&, const LaunchPlace& place);
int run_train(const TrainOptions&, TrainStart& start, Communicator& world);

struct GenerateOptions {
  std::string checkpoint;  // directory of one checkpoint, or of a run: then that on which it stands
  std::string prompt;
  std::int64_t max_tokens = 200;
  double temperature = 0.8;  // 0: always the likeliest token
  std::int64_t top_k = 0;    // draw among this many likeliest tokens; 0: all
  std::uint64_t seed = 1;
};
int run_generate(const GenerateOptions&);

struct PlanOptions {
  ConfigArguments config;
  int world_size = 1;  // workers of the planned run; one process plays them all on the meta device
  bool json = false;
};
int run_plan(const PlanOptions&);

struct DataPrepareOptions {
  std::vector<std::string>
      inputs;          // text, JSONL or JSON files, compressed or not; patterns; - for standard input
  std::string output;  // prefix of the .bin/.idx pair
  std::string format = "auto";    // text, jsonl, json; auto: by name and content
  std::string json_key = "text";  // JSON: the field that holds the text
  std::string separator_line;     // text: a line like this ends a document; empty: one document per file
  std::string tokenizer = "byte";
  bool skip_bad_lines = false;  // JSON records that give no text are counted and left out
};
int run_data_prepare(const DataPrepareOptions&);

struct DataInspectOptions {
  std::string path;              // prefix of a .bin/.idx pair, or an llm.c .bin
  std::int64_t show_tokens = 0;  // print this many of the first tokens
};
int run_data_inspect(const DataInspectOptions&);

struct ConfigShowOptions {
  ConfigArguments config;
  bool help_text = false;  // comments with help, unit and range of every option
};
int run_config_show(const ConfigShowOptions&);
struct ConfigSchemaOptions {
  bool markdown = false;
};
int run_config_schema(const ConfigSchemaOptions&);

struct CheckpointOptions {
  std::string path;  // directory of one checkpoint, or of a run: then that on which it stands
};
int run_checkpoint_inspect(const CheckpointOptions&);
int run_checkpoint_verify(const CheckpointOptions&);
struct CheckpointDiffOptions {
  std::string a, b;  // as CheckpointOptions::path
};
int run_checkpoint_diff(const CheckpointDiffOptions&);

struct CostOptions {
  std::vector<std::string> paths;  // run directories, searched recursively for ledgers
  std::string project;             // only runs of this cost.project; empty: all
  bool json = false;
  std::string csv;     // file for one line per launch; empty: none
  std::string sqlite;  // file for a database; empty: none
};
int run_cost(const CostOptions&);

struct ReportOptions {
  std::vector<std::string> runs;  // run directories; several lie over each other on one page
  std::string output;             // empty: report.html in the directory of the run, or here for several
};
int run_report(const ReportOptions&);

struct DoctorOptions {
  std::string directory = "runs";  // where the disk is measured
  bool json = false;
};
int run_doctor(const DoctorOptions&, Communicator& world);

}  // namespace jevons
