// Compiled once per instruction set, each time with another AUDIOMAMBA_ISA and other machine flags.
#include "conv.h"
#include "mixer.h"
#include "scan_backward.h"
#include "scan_forward.h"

namespace audiomamba {
namespace AUDIOMAMBA_ISA {

#define AUDIOMAMBA_TEXT(name) #name
#define AUDIOMAMBA_NAME(name) AUDIOMAMBA_TEXT(name)

extern const Kernels kernels;
const Kernels kernels = {
    AUDIOMAMBA_NAME(AUDIOMAMBA_ISA),
    kLanes * kBlocksPerItem,
    forward_blocks,
    scan_items,
    scan_forward,
    backward_items,
    scan_backward,
    conv_pieces,
    conv_forward,
    conv_items,
    conv_backward,
    mix,
    mixes,
};

}  // namespace AUDIOMAMBA_ISA
}  // namespace audiomamba
