# A template on top of ours, by Packer's proxmox-clone builder, for those who have their provisioners there.
#
#   packer init .
#   packer build -var "template=$(imagebuild resolve debian-base)" .
#
# The plugin reads PROXMOX_URL (https://…:8006/api2/json), PROXMOX_USERNAME (user@realm!name) and PROXMOX_TOKEN.

packer {
  required_plugins {
    proxmox = {
      source  = "github.com/hashicorp/proxmox"
      version = ">= 1.2.2"
    }
  }
}

variable "template" {
  type        = number
  description = "VMID of the template to begin with."
}

variable "node" {
  type    = string
  default = "pve"
}

variable "bridge" {
  type    = string
  default = "vmbr0"
}

source "proxmox-clone" "web" {
  node        = var.node
  clone_vm_id = var.template
  # A linked clone would keep imagebuild from removing its template one day.
  full_clone      = true
  vm_name         = "web"
  template_name   = "web"
  tags            = "packer"
  os              = "l26"
  cores           = 2
  memory          = 2048
  scsi_controller = "virtio-scsi-single"
  qemu_agent      = true
  serials         = ["socket"]
  ssh_username    = "debian"

  network_adapters {
    model  = "virtio"
    bridge = var.bridge
  }

  ipconfig {
    ip = "dhcp"
  }

  # The drive through which clones of the result are told who may log in.
  cloud_init              = true
  cloud_init_storage_pool = "local-lvm"
}

build {
  sources = ["source.proxmox-clone.web"]

  provisioner "shell" {
    inline = [
      "cloud-init status --wait",
      "sudo apt-get update",
      "sudo DEBIAN_FRONTEND=noninteractive apt-get install -y nginx",
    ]
  }

  # Packer seals nothing: clones of the result would share all of this.
  provisioner "shell" {
    inline = [
      "sudo cloud-init clean --logs --seed --machine-id",
      "sudo rm -f /etc/ssh/ssh_host_*",
      "sudo sync",
    ]
  }
}
