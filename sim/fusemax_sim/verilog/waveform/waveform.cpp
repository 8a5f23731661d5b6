// Writes the waveform: at the end of every time step of a cycle that waveform.sv asks for.
#include "verilated.h"
#include "svdpi.h"
#include "vpi_user.h"
#if VM_TRACE_FST
#include "verilated_fst_c.h"
using Writer = VerilatedFstC;
#else
#include "verilated_vcd_c.h"
using Writer = VerilatedVcdC;
#endif

static Writer *writer = nullptr;
static bool recording = false;

static void register_callback(int reason, PLI_INT32 (*routine)(p_cb_data)) {
    static s_vpi_time now = {vpiSimTime, 0, 0, 0.0};
    s_cb_data data = {};
    data.reason = reason;
    data.cb_rtn = routine;
    data.time = &now;
    vpi_register_cb(&data);
}

/// All values are settled. A callback of this kind is called once, so it registers itself anew.
static PLI_INT32 end_of_time_step(p_cb_data) {
    if (recording) {
        s_vpi_time time = {vpiSimTime, 0, 0, 0.0};
        vpi_get_time(nullptr, &time);
        writer->dump(static_cast<uint64_t>(time.high) << 32 | time.low);
    }
    register_callback(cbReadOnlySynch, end_of_time_step);
    return 0;
}

static PLI_INT32 end_of_simulation(p_cb_data) {
    writer->close();
    return 0;
}

extern "C" {

/// Opens the file for signals of so many levels of the hierarchy. The process ends when it cannot.
void fusemax_waveform_open(const char *path, int depth) {
    writer = new Writer;
    writer->dumpvars(depth, "sim_top");
    Verilated::threadContextp()->trace(writer, 0);
    writer->open(path);
    if (!writer->isOpen()) VL_FATAL_MT(__FILE__, __LINE__, "", "the waveform's file cannot be written");
    register_callback(cbReadOnlySynch, end_of_time_step);
    register_callback(cbEndOfSimulation, end_of_simulation);
}

/// From now on, time steps are written, or not.
void fusemax_waveform_record(svBit on) { recording = on; }
}
