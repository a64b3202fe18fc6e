#!/bin/sh
# The source distribution and one wheel a platform: the kernel is plain C called through ctypes, so a wheel fits every
# Python and every torch.
#   PYTHON=python3 sh tools/wheels.sh FOLDER
# Linux on this machine's processor is always built, and checked by auditwheel. Linux on aarch64 and Windows on
# x86-64 are built where a cross compiler is installed (Debian: g++-aarch64-linux-gnu, g++-mingw-w64-x86-64-posix).
set -eu
out=${1:?give the folder for the wheels}
python=${PYTHON:-python3}
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$out"
out=$(cd "$out" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"$python" -m build --sdist --outdir "$out" "$root"

# Every wheel is built from the source distribution, so that nothing left in the checkout can slip in.
sdist=$(ls -t "$out"/hear_audiomamba-*.tar.gz | head -n 1)
wheel() { # platform tag, then settings of build_kernel.py
    platform=$1
    shift
    mkdir -p "$scratch/$platform/source"
    tar -xzf "$sdist" -C "$scratch/$platform/source" --strip-components 1
    env "$@" _PYTHON_HOST_PLATFORM="$platform" \
        "$python" -m build --wheel --outdir "$scratch/$platform/wheel" "$scratch/$platform/source"
    built=$(ls "$scratch/$platform"/wheel/*.whl)
    if ! "$python" -m zipfile -l "$built" | grep -q "ops/_kernels.so"; then
        echo "$platform: the compiled kernel is not in the wheel; see the compiler's message above" >&2
        exit 1
    fi
    case $platform in
        linux-*) PATH="$(dirname "$python"):$PATH" "$python" -m auditwheel repair --wheel-dir "$out" "$built" ;;
        *) cp "$built" "$out" ;;
    esac
}

wheel "linux-$(uname -m)" AUDIOMAMBA_TARGET_SYSTEM=Linux
if [ "$(uname -m)" != aarch64 ] && command -v aarch64-linux-gnu-g++ >/dev/null; then
    wheel linux-aarch64 CXX=aarch64-linux-gnu-g++ AUDIOMAMBA_TARGET_MACHINE=aarch64 AUDIOMAMBA_TARGET_SYSTEM=Linux
fi
if command -v x86_64-w64-mingw32-g++-posix >/dev/null; then
    wheel win-amd64 CXX=x86_64-w64-mingw32-g++-posix AUDIOMAMBA_TARGET_MACHINE=x86_64 AUDIOMAMBA_TARGET_SYSTEM=Windows
fi
ls -l "$out"
