// A profiler for tests, loaded by NVTX (NVTX_INJECTION64_PATH): writes "+name" and "-" for every range of the
// thread to FAKE_PROFILER_LOG, with the MPI rank behind a dot.
#include <nvtx3/nvToolsExt.h>

#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

std::FILE* log_file() {
  static std::FILE* const file = [] {
    const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
    return std::fopen((std::string(std::getenv("FAKE_PROFILER_LOG")) + "." + (rank ? rank : "0")).c_str(),
                      "w");
  }();
  return file;
}

int push(const char* name) {
  std::fprintf(log_file(), "+%s\n", name);
  return 0;
}

int pop() {
  std::fputs("-\n", log_file());
  std::fflush(log_file());
  return 0;
}

template <class F>
NvtxFunctionPointer pointer_to(F* function) {
  return reinterpret_cast<NvtxFunctionPointer>(function);
}

}  // namespace

extern "C" int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t tables) {
  const auto* callbacks = static_cast<const NvtxExportTableCallbacks*>(tables(NVTX_ETID_CALLBACKS));
  NvtxFunctionTable table = nullptr;
  unsigned size = 0;
  if (callbacks == nullptr || callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE, &table, &size) == 0)
    return 0;
  *table[NVTX_CBID_CORE_RangePushA] = pointer_to(push);
  *table[NVTX_CBID_CORE_RangePop] = pointer_to(pop);
  return 1;
}
